package pickle

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Append writes v to b as one pickle of protocol 3, which every Python 3 reads: nil, bool, int, int64, float32, float64,
// string, Bytes, []float32, []float64, []string, []any and *Dict with such values; numbers become Python's float and int,
// slices lists. Anything else is an error, and so are a string and bytes that are longer than 2^32-1.
func Append(b []byte, v any) ([]byte, error) {
	b, err := appendValue(append(b, 0x80, 3), v)
	return append(b, '.'), err
}

func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, 'N'), nil
	case bool:
		if v {
			return append(b, 0x88), nil
		}
		return append(b, 0x89), nil
	case int:
		return appendInt(b, int64(v)), nil
	case int64:
		return appendInt(b, v), nil
	case float32:
		return appendFloat(b, float64(v)), nil
	case float64:
		return appendFloat(b, v), nil
	case string:
		return appendText(b, v)
	case Bytes:
		return appendSized(append(b, 'B'), v)
	case []float32:
		return appendList(b, v, func(b []byte, x float32) ([]byte, error) { return appendFloat(b, float64(x)), nil })
	case []float64:
		return appendList(b, v, func(b []byte, x float64) ([]byte, error) { return appendFloat(b, x), nil })
	case []string:
		return appendList(b, v, appendText)
	case []any:
		return appendList(b, v, appendValue)
	case *Dict:
		return appendDict(b, v)
	}
	return b, fmt.Errorf("a value of type %T cannot be pickled", v)
}

func appendInt(b []byte, v int64) []byte {
	if v == int64(int32(v)) {
		return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(v))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0x8a, 8), uint64(v))
}

func appendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 'G'), math.Float64bits(v))
}

func appendText(b []byte, s string) ([]byte, error) { return appendSized(append(b, 'X'), s) }

func appendSized[T ~string | ~[]byte](b []byte, s T) ([]byte, error) {
	if uint64(len(s)) > math.MaxUint32 {
		return b, fmt.Errorf("%d bytes are too long for a value of a pickle", len(s))
	}
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...), nil
}

func appendList[T any](b []byte, items []T, one func([]byte, T) ([]byte, error)) ([]byte, error) {
	b = append(b, ']', '(')
	for _, item := range items {
		var err error
		if b, err = one(b, item); err != nil {
			return b, err
		}
	}
	return append(b, 'e'), nil
}

func appendDict(b []byte, d *Dict) ([]byte, error) {
	b = append(b, '}', '(')
	for _, e := range d.Entries {
		var err error
		if b, err = appendValue(b, e.Key); err != nil {
			return b, err
		}
		if b, err = appendValue(b, e.Value); err != nil {
			return b, err
		}
	}
	return append(b, 'u'), nil
}
