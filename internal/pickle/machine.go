package pickle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// Machine reads one or more pickles from a source. The hooks decide what the pickles may name; nil refuses everything.
type Machine struct {
	Global     func(g Global) (any, error)           // the value of a global, usually g itself
	Call       func(fn any, args Tuple) (any, error) // the result of calling what Global returned
	Build      func(obj, state any) error            // sets an object's state; *Object is handled without it
	Persistent func(id any) (any, error)             // the value behind a persistent id

	src     *bufio.Reader
	data    []byte // the input instead of src, when src is nil; byte strings share its memory
	off     int64  // bytes consumed
	scratch [8]byte
	limit   int64
	ops     int
	maxOps  int

	stack []any
	marks []int
	memo  map[uint32]any
	err   error
}

// Limits: far above the largest training checkpoint's pickle, and low enough that a hostile one stays cheap.
const (
	MaxBytes = 64 << 20 // of all pickles read by one Machine
	maxOps   = 4 << 20
)

// NewMachine returns a machine that reads from r, which should not be a bufio.Reader: it is read ahead.
func NewMachine(r io.Reader) *Machine {
	return &Machine{src: bufio.NewReaderSize(r, 1<<15), limit: MaxBytes, maxOps: maxOps}
}

// newDataMachine returns a machine that reads b and runs at most ops opcodes.
func newDataMachine(b []byte, ops int) *Machine {
	return &Machine{data: b, limit: int64(len(b)), maxOps: ops}
}

// Offset returns how many bytes the pickles read so far take.
func (m *Machine) Offset() int64 { return m.off }

// Load reads the next pickle and returns its value.
func (m *Machine) Load() (any, error) {
	m.stack, m.marks, m.memo = nil, nil, map[uint32]any{}
	for m.err == nil {
		if m.ops++; m.ops > m.maxOps {
			m.fail("more than %d opcodes", m.maxOps)
			break
		}
		op := m.u8()
		if m.err != nil {
			break
		}
		if op == '.' {
			return m.pop(), m.wrapped()
		}
		m.step(op)
	}
	return nil, m.wrapped()
}

// wrapped returns the error with its place.
func (m *Machine) wrapped() error {
	if m.err == nil {
		return nil
	}
	if errors.Is(m.err, io.EOF) || errors.Is(m.err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("pickle ends at byte %d before its stop opcode", m.off)
	}
	return fmt.Errorf("pickle, near byte %d: %w", m.off, m.err)
}

func (m *Machine) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

// step runs one opcode.
func (m *Machine) step(op byte) {
	switch op {
	case 0x80: // PROTO
		if v := m.u8(); v < 2 || v > 5 {
			m.fail("protocol %d: expected 2 to 5", v)
		}
	case 0x95: // FRAME: the contents simply follow
		m.u64()
	case '(':
		m.marks = append(m.marks, len(m.stack))
	case '0':
		m.pop()
	case '1':
		m.popMark()
	case '2':
		if v := m.pop(); m.err == nil {
			m.push(v)
			m.push(v)
		}
	case 'c', 0x93, 'i', 'R', 0x81, 0x92, 'o', 'b', 'Q', 0x82, 0x83, 0x84:
		m.stepCall(op)
	case 'q', 'r', 'h', 'j', 0x94:
		m.stepMemo(op)
	case ')', 't', 0x85, 0x86, 0x87, ']', 'l', 'a', 'e', '}', 'd', 's', 'u', 0x8f, 0x90, 0x91:
		m.stepContainer(op)
	default:
		m.stepScalar(op)
	}
}

// stepScalar pushes a plain value.
func (m *Machine) stepScalar(op byte) {
	switch op {
	case 'N':
		m.push(nil)
	case 0x88:
		m.push(true)
	case 0x89:
		m.push(false)
	case 'J':
		m.push(int64(int32(m.u32())))
	case 'K':
		m.push(int64(m.u8()))
	case 'M':
		m.push(int64(binary.LittleEndian.Uint16(m.fixed(2))))
	case 0x8a: // LONG1
		m.push(toInt(m.bytes(uint64(m.u8()))))
	case 0x8b: // LONG4
		m.push(toInt(m.bytes(uint64(m.u32()))))
	case 'G':
		m.push(math.Float64frombits(binary.BigEndian.Uint64(m.fixed(8))))
	case 'X':
		m.push(m.text(uint64(m.u32())))
	case 0x8c:
		m.push(m.text(uint64(m.u8())))
	case 0x8d:
		m.push(m.text(m.u64()))
	case 'T', 'B':
		m.push(Bytes(m.bytes(uint64(m.u32()))))
	case 'U', 'C':
		m.push(Bytes(m.bytes(uint64(m.u8()))))
	case 0x8e, 0x96:
		m.push(Bytes(m.bytes(m.u64())))
	default:
		m.fail("opcode 0x%02x is not read: it is none of protocols 2 to 5, or takes data from outside the pickle", op)
	}
}

// toInt decodes a little-endian two's complement integer.
func toInt(b []byte) any {
	if len(b) > 8 {
		return Long(b)
	}
	var full [8]byte
	if n := copy(full[:], b); n > 0 && b[n-1]&0x80 != 0 {
		for i := n; i < 8; i++ {
			full[i] = 0xff
		}
	}
	return int64(binary.LittleEndian.Uint64(full[:]))
}

// stepContainer makes or fills tuples, lists, dicts and sets.
func (m *Machine) stepContainer(op byte) {
	switch op {
	case ')':
		m.push(Tuple{})
	case 't':
		m.push(Tuple(m.popMark()))
	case 0x85, 0x86, 0x87:
		m.push(Tuple(m.popN(int(op - 0x84))))
	case ']', 0x8f:
		m.push(&List{})
	case 'l', 0x91:
		m.push(&List{Items: m.popMark()})
	case 'a':
		m.extend(m.popN(1))
	case 'e', 0x90:
		m.extend(m.popMark())
	case '}':
		m.push(&Dict{})
	case 'd':
		items := m.popMark()
		m.push(&Dict{})
		m.setItems(items)
	case 's':
		m.setItems(m.popN(2))
	case 'u':
		m.setItems(m.popMark())
	}
}

func (m *Machine) extend(items []any) {
	if list, ok := m.top().(*List); ok {
		list.Items = append(list.Items, items...)
		return
	}
	m.fail("items are added to what is no list")
}

func (m *Machine) setItems(items []any) {
	d, ok := m.top().(*Dict)
	if !ok || len(items)%2 != 0 {
		m.fail("items are set on what is no dict, or in odd number")
		return
	}
	for i := 0; i < len(items); i += 2 {
		d.Set(items[i], items[i+1])
	}
}

// stepMemo stores to or fetches from the memo.
func (m *Machine) stepMemo(op byte) {
	switch op {
	case 'q':
		m.memo[uint32(m.u8())] = m.top()
	case 'r':
		m.memo[m.u32()] = m.top()
	case 0x94:
		m.memo[uint32(len(m.memo))] = m.top()
	default:
		var i uint32
		if op == 'h' {
			i = uint32(m.u8())
		} else {
			i = m.u32()
		}
		v, ok := m.memo[i]
		if !ok {
			m.fail("memo entry %d is not there", i)
		}
		m.push(v)
	}
}

// stepCall handles everything that Python would execute; here the hooks answer.
func (m *Machine) stepCall(op byte) {
	switch op {
	case 'c':
		m.global(m.line(), m.line())
	case 0x93:
		pair := m.popN(2)
		if m.err != nil {
			return
		}
		module, ok1 := pair[0].(string)
		name, ok2 := pair[1].(string)
		if !ok1 || !ok2 {
			m.fail("a global whose name is no text")
			return
		}
		m.global(module, name)
	case 'i': // INST: named so that the refusal names it
		m.global(m.line(), m.line())
		m.fail("an instance of an old-style class")
	case 'o', 0x82, 0x83, 0x84:
		m.fail("opcode 0x%02x (old-style object or extension) is refused", op)
	case 'R', 0x81:
		pair := m.popN(2)
		if m.err == nil {
			m.call(pair[0], pair[1])
		}
	case 0x92: // NEWOBJ_EX: keyword arguments must be none
		three := m.popN(3)
		if m.err != nil {
			return
		}
		if kw, ok := three[2].(*Dict); !ok || len(kw.Entries) > 0 {
			m.fail("an object made with keyword arguments")
			return
		}
		m.call(three[0], three[1])
	case 'b':
		state := m.pop()
		m.build(m.top(), state)
	case 'Q':
		id := m.pop()
		if m.Persistent == nil {
			m.fail("a persistent id, where none is expected")
		}
		if m.err == nil {
			var v any
			v, m.err = m.Persistent(id)
			m.push(v)
		}
	}
}

func (m *Machine) global(module, name string) {
	g := Global{module, name}
	if m.err != nil {
		return
	}
	if m.Global == nil {
		m.fail("refused pickle global %s", g)
		return
	}
	var v any
	v, m.err = m.Global(g)
	m.push(v)
}

func (m *Machine) call(fn, args any) {
	tuple, ok := args.(Tuple)
	if !ok || m.Call == nil {
		m.fail("a call without a tuple of arguments")
		return
	}
	var v any
	v, m.err = m.Call(fn, tuple)
	m.push(v)
}

func (m *Machine) build(obj, state any) {
	switch o := obj.(type) {
	case *Object:
		o.State = state
	default:
		if m.err == nil && m.Build == nil {
			m.fail("a state for what is no object")
		}
		if m.err == nil {
			m.err = m.Build(obj, state)
		}
	}
}

// ---- stack ----

func (m *Machine) push(v any) {
	if m.err == nil {
		m.stack = append(m.stack, v)
	}
}

// floor is the lowest stack entry that may be popped: the newest mark protects what lies below.
func (m *Machine) floor() int {
	if len(m.marks) == 0 {
		return 0
	}
	return m.marks[len(m.marks)-1]
}

func (m *Machine) top() any {
	if len(m.stack) <= m.floor() {
		m.fail("the stack is empty")
		return nil
	}
	return m.stack[len(m.stack)-1]
}

func (m *Machine) pop() any {
	v := m.top()
	if m.err == nil {
		m.stack = m.stack[:len(m.stack)-1]
	}
	return v
}

// popN returns a copy of the top n entries, n as the opcode says.
func (m *Machine) popN(n int) []any {
	if m.err == nil && len(m.stack)-m.floor() < n {
		m.fail("the stack is empty")
	}
	if m.err != nil {
		return nil
	}
	return m.cut(len(m.stack) - n)
}

// popMark returns a copy of the entries above the newest mark and forgets the mark.
func (m *Machine) popMark() []any {
	if m.err == nil && len(m.marks) == 0 {
		m.fail("no mark on the stack")
	}
	if m.err != nil {
		return nil
	}
	at := m.floor()
	m.marks = m.marks[:len(m.marks)-1]
	return m.cut(at)
}

func (m *Machine) cut(at int) []any {
	out := append([]any(nil), m.stack[at:]...)
	clear(m.stack[at:])
	m.stack = m.stack[:at]
	return out
}

// ---- input ----

// fixed reads n <= 8 bytes; zeros after an error.
func (m *Machine) fixed(n int) []byte {
	b := m.scratch[:n]
	clear(b)
	if m.err == nil && m.src == nil {
		copy(b, m.take(uint64(n)))
		return b
	}
	if m.err == nil && m.off+int64(n) > m.limit {
		m.fail("the pickle is longer than %d MiB", m.limit>>20)
	}
	if m.err == nil {
		if _, err := io.ReadFull(m.src, b); err != nil {
			m.err = err
			clear(b)
		} else {
			m.off += int64(n)
		}
	}
	return b
}

func (m *Machine) u8() byte    { return m.fixed(1)[0] }
func (m *Machine) u32() uint32 { return binary.LittleEndian.Uint32(m.fixed(4)) }
func (m *Machine) u64() uint64 { return binary.LittleEndian.Uint64(m.fixed(8)) }

// take returns the next n bytes of data, which it does not copy; nil after an error.
func (m *Machine) take(n uint64) []byte {
	rest := m.data[m.off:]
	if n > uint64(len(rest)) {
		m.err = io.ErrUnexpectedEOF
		return nil
	}
	m.off += int64(n)
	return rest[:n:n]
}

// bytes reads n bytes. The buffer grows with what is really there.
func (m *Machine) bytes(n uint64) []byte {
	if m.err == nil && m.src == nil {
		return m.take(n)
	}
	if m.err == nil && n > uint64(m.limit-m.off) {
		m.fail("%d bytes are longer than a pickle may be (%d MiB)", n, m.limit>>20)
	}
	var out []byte
	for m.err == nil && uint64(len(out)) < n {
		piece := make([]byte, min(n-uint64(len(out)), max(1<<12, uint64(len(out)))))
		if _, err := io.ReadFull(m.src, piece); err != nil {
			m.err = err
			break
		}
		m.off += int64(len(piece))
		out = append(out, piece...)
	}
	return out
}

func (m *Machine) text(n uint64) string {
	b := m.bytes(n)
	if m.err == nil && !utf8.Valid(b) {
		m.fail("a text is not UTF-8")
	}
	return string(b)
}

// line reads up to a newline, which is dropped: the form of a global's two names.
func (m *Machine) line() string {
	var b []byte
	for m.err == nil {
		c := m.u8()
		if m.err != nil || c == '\n' {
			break
		}
		if len(b) == 1024 {
			m.fail("a global's name is longer than 1024 bytes")
		}
		b = append(b, c)
	}
	return string(b)
}
