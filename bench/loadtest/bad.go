package loadtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
)

// badKind is a kind of bad request and what a server must answer to it.
type badKind struct {
	name     string
	make     func(b *badMaker, n uint64) request
	raw      func(sender *rawSender, q request) // sends a request that net/http would not; nil: it is an ordinary one
	statuses []int                              // that are right
	failed   bool                               // 200 is right, too, where the answer says that the picture failed
	closed   bool                               // so is a closed connection
}

// must says what is right, for people.
func (k *badKind) must() string {
	var parts []string
	for _, s := range k.statuses {
		parts = append(parts, strconv.Itoa(s))
	}
	if k.failed {
		parts = append(parts, "200 without a score")
	}
	if k.closed {
		parts = append(parts, "closed")
	}
	return strings.Join(parts, ", ")
}

// badKinds are mixed in evenly, in this order.
var badKinds = []badKind{
	{name: "broken picture", make: (*badMaker).brokenPicture, statuses: []int{400}, failed: true},
	{name: "no picture", make: (*badMaker).noPicture, statuses: []int{400}, failed: true},
	{name: "decode bomb", make: (*badMaker).decodeBomb, statuses: []int{400, 413}, failed: true},
	{name: "hostile pickle", make: (*badMaker).hostilePickle, statuses: []int{400}},
	{name: "invalid UTF-8", make: (*badMaker).invalidUTF8, statuses: []int{400}},
	{name: "garbage", make: (*badMaker).garbage, statuses: []int{400}},
	{name: "deep nesting", make: (*badMaker).deepNesting, statuses: []int{400, 413}},
	{name: "2 GB announced", make: (*badMaker).good, raw: (*rawSender).announce, statuses: []int{413}},
	{name: "half a request", make: (*badMaker).good, raw: (*rawSender).half, statuses: []int{400, 408, 499}, closed: true},
}

// badMaker makes bad requests of a good one.
type badMaker struct {
	p     protocol
	image []byte
	text  string
}

// good is what raw kinds send a part of.
func (b *badMaker) good(uint64) request { return b.p.request([][]byte{b.image}, []string{b.text}) }

// brokenPicture is cut off in the middle, or has nothing right behind its first bytes.
func (b *badMaker) brokenPicture(n uint64) request {
	image := slices.Clone(b.image[:len(b.image)/2])
	if n%2 == 1 {
		for i := 12; i < len(image); i++ {
			image[i] = byte(mix(n, uint64(i)))
		}
	}
	return b.p.request([][]byte{image}, []string{b.text})
}

// noPicture is bytes of no format.
func (b *badMaker) noPicture(n uint64) request {
	return b.p.request([][]byte{[]byte(fmt.Sprintf("\x00\x01\x02 this is no picture %d", n))}, []string{b.text})
}

// decodeBomb is a PNG of a few bytes whose header claims 100,000 x 100,000 pixels: 30 GB once decoded.
func (b *badMaker) decodeBomb(uint64) request {
	return b.p.request([][]byte{pngClaiming(100_000, 100_000)}, []string{b.text})
}

// pngClaiming returns a PNG with right checksums and hardly any data.
func pngClaiming(width, height uint32) []byte {
	header := binary.BigEndian.AppendUint32(nil, width)
	header = append(binary.BigEndian.AppendUint32(header, height), 8, 2, 0, 0, 0) // 8 bit RGB
	file := []byte("\x89PNG\r\n\x1a\n")
	for _, chunk := range []struct {
		name string
		data []byte
	}{{"IHDR", header}, {"IDAT", []byte("\x78\x9c\x63\x00\x00\x00\x01\x00\x01")}, {"IEND", nil}} {
		file = binary.BigEndian.AppendUint32(file, uint32(len(chunk.data)))
		body := append([]byte(chunk.name), chunk.data...)
		file = binary.BigEndian.AppendUint32(append(file, body...), crc32.ChecksumIEEE(body))
	}
	return file
}

// hostilePickles would run a command, or take much memory, in a program that unpickles them with Python's own means. The
// command is "true".
var hostilePickles = [][]byte{
	[]byte("cposix\nsystem\n(S'true'\ntR."),
	[]byte("\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."),
	[]byte("\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R."),
	[]byte("\x80\x02\x8b\xff\xff\xff\x7f"),                 // an integer of 2 GB
	[]byte("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"), // bytes of 8 EB
	[]byte("\x80\x02r\xff\xff\xff\x7f."),                   // a memo of 2^31 entries
	laughs(),
}

// laughs is a list of two references to a list of two references to ..., 2^64 values in all.
func laughs() []byte {
	b := []byte("\x80\x02]q\x00")
	for i := range 64 {
		b = append(b, '(', 'h', byte(i), 'h', byte(i), 't', 'q', byte(i+1))
	}
	return append(b, '.')
}

func (b *badMaker) hostilePickle(n uint64) request {
	return request{"/", "application/octet-stream", hostilePickles[n%uint64(len(hostilePickles))]}
}

// invalidUTF8 has a text that is none.
func (b *badMaker) invalidUTF8(uint64) request {
	const mark = "a text that will not be one"
	q := b.p.request([][]byte{b.image}, []string{mark})
	q.body = bytes.Replace(q.body, []byte(mark), []byte("\xff\xfe\xc3\x28"+mark[4:]), 1)
	return q
}

// garbage has a body that is nothing.
func (b *badMaker) garbage(n uint64) request {
	q := b.good(n)
	q.body = make([]byte, 1000)
	for i := range q.body {
		q.body[i] = byte(mix(n, uint64(i)))
	}
	return q
}

// deepNesting has a hundred thousand lists in each other.
func (b *badMaker) deepNesting(n uint64) request {
	const depth = 100_000
	q := b.good(n)
	if q.contentType != "application/json" { // a pickle: lists appended to lists
		q.body = slices.Concat([]byte{0x80, 2}, bytes.Repeat([]byte{']'}, depth), bytes.Repeat([]byte{'a'}, depth-1), []byte{'.'})
		return q
	}
	q.body = slices.Concat([]byte(`{"images":`), bytes.Repeat([]byte{'['}, depth), bytes.Repeat([]byte{']'}, depth), []byte("}"))
	return q
}
