"""Compares inference.proto with the one that Triton's client was built from: every message, field, number, type and call.

    python check_wire.py        needs tritonclient[grpc] and protoc; prints what differs, exit status 1 if anything does
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

HERE = Path(__file__).parent
with tempfile.NamedTemporaryFile() as out:
    subprocess.run(["protoc", f"-I{HERE}", f"--descriptor_set_out={out.name}", "inference.proto"], check=True)
    ours = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file[0]

theirs = descriptor_pb2.FileDescriptorProto()
for module in (service_pb2, model_config_pb2):
    theirs.MergeFromString(module.DESCRIPTOR.serialized_pb)

faults = []


def by_name(items):
    return {item.name: item for item in items}


def compare(path, mine, other):
    for name, field in by_name(mine.field).items():
        want = by_name(other.field).get(name)
        shape = lambda f: (f.number, f.label, f.type, f.type_name)
        if want is None or shape(want) != shape(field):
            faults.append(f"{path}.{name}: {shape(field)}, Triton has {want and shape(want)}")
    for name, nested in by_name(mine.nested_type).items():
        if name not in by_name(other.nested_type):
            faults.append(f"{path}.{name}: Triton has no such message")
        else:
            compare(f"{path}.{name}", nested, by_name(other.nested_type)[name])


for name, message in by_name(ours.message_type).items():
    if name not in by_name(theirs.message_type):
        faults.append(f"{name}: Triton has no such message")
    else:
        compare(name, message, by_name(theirs.message_type)[name])
for name, enum in by_name(ours.enum_type).items():
    numbers = {v.name: v.number for v in by_name(theirs.enum_type)[name].value}
    faults += [f"{name}.{v.name}: {v.number}" for v in enum.value if numbers.get(v.name) != v.number]
calls = by_name(by_name(theirs.service)["GRPCInferenceService"].method)
for call in ours.service[0].method:
    want = calls.get(call.name)
    if want is None or (want.input_type, want.output_type) != (call.input_type, call.output_type):
        faults.append(f"rpc {call.name}: Triton has {want}")
if ours.package != theirs.package:
    faults.append(f"package {ours.package}: Triton has {theirs.package}")

print("\n".join(faults) or f"{len(ours.message_type)} messages and {len(ours.service[0].method)} calls are as Triton's client has them")
sys.exit(bool(faults))
