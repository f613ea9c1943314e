package protocol

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that boundedCodec asks
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/tia2-engine/tia2-engine/engine/serve/protocol/kservepb"
)

// boundedCodec is gRPC's codec for protobuf, which refuses inference requests of too many fields before they are decoded:
// an empty input takes two bytes on the wire and a hundred in memory.
type boundedCodec struct{ encoding.CodecV2 }

func newBoundedCodec() boundedCodec { return boundedCodec{encoding.GetCodecV2("proto")} }

// Unmarshal decodes a message.
func (c boundedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*pb.ModelInferRequest); ok {
		buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer buf.Free()
		budget := maxFields
		if err := countFields(buf.ReadOnlyData(), &budget, inferFields); err != nil {
			return err
		}
		data = mem.BufferSlice{buf} // in one piece, which need not be copied again
	}
	return c.CodecV2.Unmarshal(data, v)
}

// maxFields bounds the fields of an inference request, those of its inputs and outputs with it.
const maxFields = 2*maxItems + 1<<12

// messageFields are the fields of a message that hold messages, and which of theirs do.
type messageFields map[protowire.Number]messageFields

// inferFields are those of ModelInferRequest: parameters, inputs (with parameters and contents) and outputs.
var inferFields = messageFields{4: {2: nil}, 5: {4: {2: nil}, 5: nil}, 6: {2: {2: nil}}}

// countFields takes the number of fields of a message, and of the messages in it, from budget.
func countFields(b []byte, budget *int, messages messageFields) error {
	for len(b) > 0 {
		if *budget--; *budget < 0 {
			return fmt.Errorf("a message of more than %d fields", maxFields)
		}
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(number, typ, b)
		if size < 0 {
			return protowire.ParseError(size)
		}
		if inner, ok := messages[number]; ok && typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(b)
			if err := countFields(content, budget, inner); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}
