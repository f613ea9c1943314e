package loadtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
)

// pickleProtocol is that of pickled dicts over HTTP. A request has one reward, "" for the server's first; its answer does
// not name it.
type pickleProtocol struct{ reward string }

// unnamed is what the reward of an answer is called where the request did not name one.
const unnamed = "scores"

func (p pickleProtocol) request(images [][]byte, texts []string) request {
	return request{"/" + url.PathEscape(p.reward), "application/octet-stream", pickleRequest(images, texts)}
}

func (p pickleProtocol) answer(body []byte, n int) (answer, error) {
	v, err := readPickle(body)
	if err != nil {
		return nil, err
	}
	dict, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the answer is a %T: expected a dict", v)
	}
	found, ok := dict["scores"].(*list)
	if !ok {
		return nil, fmt.Errorf(`the answer has no list "scores"`)
	}
	scores := make([]float64, len(found.items))
	for i, item := range found.items {
		if scores[i], ok = item.(float64); !ok {
			return nil, fmt.Errorf("scores[%d] is a %T: expected a float", i, item)
		}
	}
	name := p.reward
	if name == "" {
		name = unnamed
	}
	a := answer{name: scores}
	return a, a.check(nil, n)
}

// pickleRequest writes {"images": [bytes, ...], "prompts": [str, ...], "metadata": {}} as Python's pickle.dumps does, in
// protocol 4.
func pickleRequest(images [][]byte, texts []string) []byte {
	b := []byte{0x80, 4, '}', '('} // PROTO 4, EMPTY_DICT, MARK
	b = append(appendText(b, "images"), ']', '(')
	for _, image := range images {
		b = append(binary.LittleEndian.AppendUint32(append(b, 'B'), uint32(len(image))), image...) // BINBYTES
	}
	b = append(appendText(append(b, 'e'), "prompts"), ']', '(') // APPENDS
	for _, text := range texts {
		b = appendText(b, text)
	}
	b = append(appendText(append(b, 'e'), "metadata"), '}')
	return append(b, 'u', '.') // SETITEMS, STOP
}

// appendText writes BINUNICODE.
func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
}

// readPickle reads the answer of a server: dicts, lists, tuples, texts, bytes, numbers, booleans and None of protocols 2 to 4.
// Nothing in it can name a type or call anything; such opcodes are errors. Dicts are map[string]any, lists and
// tuples *list, texts and bytes string, numbers float64.
func readPickle(data []byte) (any, error) {
	m := &pickleMachine{data: data, memo: map[uint32]any{}}
	for {
		v, done, err := m.step()
		if err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %w", m.at, err)
		}
		if done {
			return v, nil
		}
	}
}

// pickleMachine is Python's unpickler, for data alone.
type pickleMachine struct {
	data  []byte
	at    int
	stack []any
	marks []int // heights of the stack
	memo  map[uint32]any
}

var (
	errTorn  = errors.New("it ends too early")
	errStack = errors.New("an opcode lacks what it works on")
)

// list is a list or tuple.
type list struct{ items []any }

func (m *pickleMachine) take(n int) ([]byte, error) {
	if n < 0 || n > len(m.data)-m.at {
		return nil, errTorn
	}
	m.at += n
	return m.data[m.at-n : m.at], nil
}

// number reads an unsigned little-endian number of n bytes.
func (m *pickleMachine) number(n int) (int, error) {
	b, err := m.take(n)
	if err != nil {
		return 0, err
	}
	v := uint64(0)
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return int(min(v, math.MaxInt32)), nil
}

// sized reads n bytes of length and then as many bytes.
func (m *pickleMachine) sized(n int) ([]byte, error) {
	length, err := m.number(n)
	if err != nil {
		return nil, err
	}
	return m.take(length)
}

func (m *pickleMachine) push(v any) { m.stack = append(m.stack, v) }

// sinceMark takes what was pushed since the last mark.
func (m *pickleMachine) sinceMark() ([]any, error) {
	if len(m.marks) == 0 || m.marks[len(m.marks)-1] > len(m.stack) {
		return nil, errStack
	}
	from := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	items := append([]any(nil), m.stack[from:]...)
	m.stack = m.stack[:from]
	return items, nil
}

// last takes the last n values.
func (m *pickleMachine) last(n int) ([]any, error) {
	if n > len(m.stack) {
		return nil, errStack
	}
	items := append([]any(nil), m.stack[len(m.stack)-n:]...)
	m.stack = m.stack[:len(m.stack)-n]
	return items, nil
}

// step runs one opcode. done: it was STOP, and v is the value.
func (m *pickleMachine) step() (v any, done bool, err error) {
	b, err := m.take(1)
	if err != nil {
		return nil, false, err
	}
	switch op := b[0]; op {
	case '.':
		items, err := m.last(1)
		if err != nil {
			return nil, false, err
		}
		return items[0], true, nil
	case 0x80: // PROTO
		_, err = m.take(1)
	case 0x95: // FRAME
		_, err = m.take(8)
	case '(':
		m.marks = append(m.marks, len(m.stack))
	case 'N', 0x88, 0x89, ']', '}', ')':
		m.push(constant(op))
	case 'G', 'J', 'K', 'M', 0x8a:
		err = m.pushNumber(op)
	case 'X', 0x8c, 'B', 'C':
		var text []byte
		if text, err = m.sized(map[byte]int{'X': 4, 'B': 4, 0x8c: 1, 'C': 1}[op]); err == nil {
			m.push(string(text))
		}
	case 'a', 'e', 's', 'u':
		err = m.fill(op)
	case 't', 0x85, 0x86, 0x87:
		err = m.tuple(op)
	case 'q', 'r', 0x94, 'h', 'j':
		err = m.remember(op)
	default:
		err = fmt.Errorf("opcode %#02x is none of plain data", op)
	}
	return nil, false, err
}

func constant(op byte) any {
	switch op {
	case 0x88, 0x89:
		return op == 0x88
	case ']', ')':
		return &list{}
	case '}':
		return map[string]any{}
	}
	return nil
}

// pushNumber runs BINFLOAT, BININT, BININT1, BININT2 and LONG1 of at most 8 bytes.
func (m *pickleMachine) pushNumber(op byte) error {
	switch op {
	case 'G':
		b, err := m.take(8)
		if err == nil {
			m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
		}
		return err
	case 'J':
		b, err := m.take(4)
		if err == nil {
			m.push(float64(int32(binary.LittleEndian.Uint32(b))))
		}
		return err
	case 'K', 'M':
		n, err := m.number(map[byte]int{'K': 1, 'M': 2}[op])
		m.push(float64(n))
		return err
	}
	b, err := m.sized(1)
	if err != nil || len(b) > 8 {
		return errors.Join(err, errTorn)
	}
	v := int64(0)
	for i, c := range b {
		v |= int64(c) << (8 * i)
	}
	if n := len(b); n > 0 && n < 8 && b[n-1] >= 0x80 {
		v -= 1 << (8 * n)
	}
	m.push(float64(v))
	return nil
}

// fill runs APPEND, APPENDS, SETITEM and SETITEMS.
func (m *pickleMachine) fill(op byte) (err error) {
	var items []any
	switch op {
	case 'a':
		items, err = m.last(1)
	case 's':
		items, err = m.last(2)
	default:
		items, err = m.sinceMark()
	}
	if err != nil || len(m.stack) == 0 {
		return errors.Join(err, errStack)
	}
	switch to := m.stack[len(m.stack)-1].(type) {
	case *list:
		to.items = append(to.items, items...)
	case map[string]any:
		if len(items)%2 != 0 {
			return errStack
		}
		for i := 0; i < len(items); i += 2 {
			key, ok := items[i].(string)
			if !ok {
				return fmt.Errorf("a key of a dict is a %T: expected a str", items[i])
			}
			to[key] = items[i+1]
		}
	default:
		return errStack
	}
	return nil
}

// tuple runs TUPLE, TUPLE1, TUPLE2 and TUPLE3.
func (m *pickleMachine) tuple(op byte) (err error) {
	var items []any
	if op == 't' {
		items, err = m.sinceMark()
	} else {
		items, err = m.last(int(op-0x85) + 1)
	}
	m.push(&list{items})
	return err
}

// remember runs BINPUT, LONG_BINPUT, MEMOIZE, BINGET and LONG_BINGET.
func (m *pickleMachine) remember(op byte) error {
	n, err := len(m.memo), error(nil)
	if op != 0x94 {
		n, err = m.number(map[byte]int{'q': 1, 'h': 1, 'r': 4, 'j': 4}[op])
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		v, ok := m.memo[uint32(n)]
		if !ok {
			return errStack
		}
		m.push(v)
		return nil
	}
	if len(m.stack) == 0 {
		return errStack
	}
	m.memo[uint32(n)] = m.stack[len(m.stack)-1]
	return nil
}
