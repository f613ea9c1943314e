package pickle

// Values are: nil, bool, int64, Long, float64, string, Bytes, Tuple, *List, *Dict, Global, *Object, and whatever the
// caller's hooks return. Lists, dicts and objects may hold themselves: walk them with a limit, never print them.

// Long is an integer of more than 64 bits, as the pickle stores it: little-endian two's complement.
type Long []byte

// Bytes is a Python bytes, bytearray or old byte string.
type Bytes []byte

// Tuple is a Python tuple.
type Tuple []any

// List is a Python list or set.
type List struct{ Items []any }

// Entry is one key and its value.
type Entry struct{ Key, Value any }

// Dict is a Python dict in the order of insertion. Only string keys are looked up; a later entry with the same string
// replaces the earlier one.
type Dict struct {
	Entries []Entry
	index   map[string]int
}

// Get returns the value of a string key.
func (d *Dict) Get(key string) (any, bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.Entries[i].Value, true
}

// Set adds or replaces an entry.
func (d *Dict) Set(key, value any) {
	s, ok := key.(string)
	if !ok {
		d.Entries = append(d.Entries, Entry{key, value})
		return
	}
	if i, ok := d.index[s]; ok {
		d.Entries[i].Value = value
		return
	}
	if d.index == nil {
		d.index = map[string]int{}
	}
	d.index[s] = len(d.Entries)
	d.Entries = append(d.Entries, Entry{key, value})
}

// Global is the name of a class or function. It stands for nothing but its name.
type Global struct{ Module, Name string }

// String returns module.name, shortened for messages.
func (g Global) String() string {
	s := g.Module + "." + g.Name
	if len(s) > 120 {
		s = s[:120] + "..."
	}
	return s
}

// Object is an instance of a class that the caller accepted: its name, the arguments it was made with, and the state
// that BUILD gave it.
type Object struct {
	Class Global
	Args  Tuple
	State any
}
