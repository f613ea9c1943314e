package tensorfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tia2-engine/tia2-engine/internal/pickle"
)

// storageRef is what a persistent id of a torch pickle names: a run of values somewhere in the file.
type storageRef struct {
	dtype  DType // "" when the id does not say (UntypedStorage)
	key    string
	n      int64 // values; bytes when dtype is ""
	offset int64 // of a view into an older file's storage, in values
}

// tensorRef is a rebuilt tensor before its bytes are looked up.
type tensorRef struct {
	storage        storageRef
	dtype          DType
	offset         int64
	shape, strides []int64
	other          string // not empty: a kind of tensor whose values cannot be read
}

// inert is a value that is of no use here: a device, a numpy number, a hook.
type inert struct{}

// storageTypes maps torch's storage classes.
var storageTypes = map[string]DType{
	"DoubleStorage": F64, "FloatStorage": F32, "HalfStorage": F16, "BFloat16Storage": BF16, "LongStorage": I64, "IntStorage": I32,
	"ShortStorage": I16, "CharStorage": I8, "ByteStorage": U8, "BoolStorage": Bool, "ComplexFloatStorage": C64,
	"ComplexDoubleStorage": C128, "QInt8Storage": I8, "QUInt8Storage": U8, "QInt32Storage": I32, "UntypedStorage": "",
}

// torchTypes maps torch's dtypes.
var torchTypes = map[string]DType{
	"float64": F64, "double": F64, "float32": F32, "float": F32, "float16": F16, "half": F16, "bfloat16": BF16, "int64": I64, "long": I64,
	"int32": I32, "int": I32, "int16": I16, "short": I16, "int8": I8, "uint8": U8, "bool": Bool, "uint16": U16, "uint32": U32,
	"uint64": U64, "complex64": C64, "complex128": C128, "float8_e4m3fn": F8, "float8_e5m2": F8, "float8_e4m3fnuz": F8, "float8_e5m2fnuz": F8,
}

// inertGlobals may be named and called; what comes out is never used. They are what PyTorch's own weights_only reader
// takes beside tensors, and numpy's scalars (losses and metrics in training checkpoints).
var inertGlobals = []string{
	"torch.device", "torch.serialization._get_layout", "torch._utils._rebuild_device_tensor_from_numpy", "_codecs.encode",
	"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "collections.Counter",
	"torch.jit._pickle.restore_type_tag",
}

// otherTensors are rebuild functions of tensors that are no plain arrays.
var otherTensors = map[string]string{
	"torch._utils._rebuild_sparse_tensor": "sparse", "torch._utils._rebuild_sparse_csr_tensor": "sparse",
	"torch._utils._rebuild_qtensor": "quantised", "torch._utils._rebuild_meta_tensor_no_storage": "empty (meta device)",
}

// rebuilders make tensors of their arguments.
var rebuilders = map[string]func(args pickle.Tuple) (any, error){
	"torch._utils._rebuild_tensor":    func(a pickle.Tuple) (any, error) { return rebuild(a, 4, nil) },
	"torch._utils._rebuild_tensor_v2": func(a pickle.Tuple) (any, error) { return rebuild(a, 4, nil) },
	"torch._utils._rebuild_tensor_v3": func(a pickle.Tuple) (any, error) {
		if len(a) < 7 {
			return nil, errors.New("_rebuild_tensor_v3 with too few arguments")
		}
		return rebuild(a, 4, a[6])
	},
	"torch._utils._rebuild_parameter":            first,
	"torch._utils._rebuild_parameter_with_state": first,
	"torch.nn.parameter.Parameter":               first,
	"torch.Size":                                 first,
	"torch.jit._pickle.build_intlist":            first,
	"torch.jit._pickle.build_doublelist":         first,
	"torch.jit._pickle.build_boollist":           first,
	"torch.jit._pickle.build_tensorlist":         first,
}

// first returns its first argument: a parameter is its data, a size its tuple.
func first(args pickle.Tuple) (any, error) {
	if len(args) == 0 {
		return inert{}, nil
	}
	return args[0], nil
}

// unpickler reads torch pickles: the allow-list of what they may name. script allows TorchScript's own classes.
type unpickler struct{ script bool }

// hooks connects a machine.
func (u unpickler) hooks(m *pickle.Machine) {
	m.Global, m.Call, m.Build, m.Persistent = u.global, u.call, build, persistent
}

// global accepts the names of the allow-list and refuses all others.
func (u unpickler) global(g pickle.Global) (any, error) {
	full := g.Module + "." + g.Name
	_, isStorage := storageTypes[g.Name]
	_, isType := torchTypes[g.Name]
	_, isOther := otherTensors[full]
	switch {
	case full == "collections.OrderedDict", full == "torch.Tensor", full == "torch._tensor._rebuild_from_type_v2",
		rebuilders[full] != nil, isOther, slices.Contains(inertGlobals, full),
		g.Module == "torch" && (isStorage || isType), full == "torch.storage.UntypedStorage",
		u.script && strings.HasPrefix(g.Module, "__torch__"):
		return g, nil
	}
	return nil, fmt.Errorf("refused pickle global %s: only tensors and plain containers are read", g)
}

// call answers a call of an accepted global.
func (u unpickler) call(fn any, args pickle.Tuple) (any, error) {
	g, ok := fn.(pickle.Global)
	if !ok {
		return nil, errors.New("a call of what is no global")
	}
	full := g.Module + "." + g.Name
	switch {
	case full == "collections.OrderedDict":
		return orderedDict(args)
	case rebuilders[full] != nil:
		return rebuilders[full](args)
	case otherTensors[full] != "":
		return &tensorRef{dtype: Other, other: otherTensors[full]}, nil
	case full == "torch._tensor._rebuild_from_type_v2": // (function, class, its arguments, state)
		if len(args) >= 3 {
			inner, ok := args[2].(pickle.Tuple)
			if fn, isGlobal := args[0].(pickle.Global); ok && isGlobal && fn.Name != g.Name {
				return u.call(fn, inner)
			}
		}
		return nil, errors.New("_rebuild_from_type_v2 with other arguments than it takes")
	case slices.Contains(inertGlobals, full):
		return inert{}, nil
	case u.script && strings.HasPrefix(g.Module, "__torch__"):
		return &pickle.Object{Class: g, Args: args}, nil
	}
	return nil, fmt.Errorf("refused pickle call of %s", g)
}

// orderedDict makes an empty dict, or one of a list of pairs, as older pickles write it.
func orderedDict(args pickle.Tuple) (any, error) {
	d := &pickle.Dict{}
	if len(args) == 0 {
		return d, nil
	}
	pairs, ok := args[0].(*pickle.List)
	if !ok || len(args) > 1 {
		return nil, errors.New("an OrderedDict of what is no list of pairs")
	}
	for _, p := range pairs.Items {
		pair := items(p)
		if len(pair) != 2 {
			return nil, errors.New("an OrderedDict of what is no list of pairs")
		}
		d.Set(pair[0], pair[1])
	}
	return d, nil
}

// items returns the items of a list or tuple, nil of anything else.
func items(v any) []any {
	switch v := v.(type) {
	case pickle.Tuple:
		return v
	case *pickle.List:
		return v.Items
	}
	return nil
}

// build takes the state of values that are no objects: an OrderedDict's `_metadata`, a numpy dtype's layout. Neither matters.
func build(obj, state any) error {
	switch obj.(type) {
	case *pickle.Dict, inert, *tensorRef:
		return nil
	}
	return errors.New("a state is set on what has none")
}

// persistent reads ('storage', class, key, location, count[, view]).
func persistent(id any) (any, error) {
	t, _ := id.(pickle.Tuple)
	if len(t) < 5 || t[0] != "storage" {
		return nil, errors.New("a persistent id that names no storage")
	}
	class, isClass := t[1].(pickle.Global)
	key, isKey := t[2].(string)
	n, isCount := t[4].(int64)
	dtype, known := storageTypes[class.Name]
	if !isClass || !isKey || !isCount || !known || n < 0 {
		return nil, errors.New("a storage without class, key or count")
	}
	s := storageRef{dtype: dtype, key: key, n: n}
	if len(t) > 5 && t[5] != nil { // a view of an older file: (key, offset, count)
		view := items(t[5])
		if len(view) != 3 {
			return nil, errors.New("a storage view without offset or count")
		}
		offset, ok1 := view[1].(int64)
		count, ok2 := view[2].(int64)
		if !ok1 || !ok2 || offset < 0 || count < 0 || count > n || offset > n-count {
			return nil, errors.New("a storage view outside its storage")
		}
		s.offset, s.n = offset, count
	}
	return s, nil
}

// rebuild reads (storage, offset, shape, strides, ...). dtype is the global of _rebuild_tensor_v3, else nil.
func rebuild(args pickle.Tuple, need int, dtype any) (any, error) {
	if len(args) < need {
		return nil, errors.New("a tensor with too few arguments")
	}
	s, ok := args[0].(storageRef)
	offset, isInt := args[1].(int64)
	shape, isShape := ints(args[2])
	strides, isStrides := ints(args[3])
	if !ok || !isInt || !isShape || !isStrides {
		return nil, errors.New("a tensor without storage, offset, shape or strides")
	}
	ref := &tensorRef{storage: s, dtype: s.dtype, offset: offset, shape: shape, strides: strides}
	if g, isGlobal := dtype.(pickle.Global); isGlobal {
		ref.dtype = torchTypes[g.Name]
	}
	if ref.dtype == "" {
		return nil, errors.New("a tensor of a type that is not known")
	}
	return ref, nil
}

func ints(v any) ([]int64, bool) {
	list := items(v)
	if len(list) > maxRank {
		return nil, false
	}
	out := make([]int64, len(list))
	for i, x := range list {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, false
		}
		out[i] = n
	}
	_, isTuple := v.(pickle.Tuple)
	_, isList := v.(*pickle.List)
	return out, isTuple || isList
}

// ---- finding the tensors in what a pickle holds ----

// named is a tensor with the path it was found at.
type named struct {
	name string
	ref  *tensorRef
}

// wrappers are the keys under which training code puts the state dict.
var wrappers = []string{"state_dict", "model_state_dict", "model", "module", "net"}

// findTensors returns the tensors of a state dict, a wrapped one, or a TorchScript module.
func findTensors(root any) ([]named, error) {
	for range len(wrappers) { // wrappers may be nested
		d, ok := root.(*pickle.Dict)
		if !ok {
			break
		}
		if found := dictTensors(d); len(found) > 0 {
			return found, nil
		}
		next := any(nil)
		for _, key := range wrappers {
			if inner, ok := d.Get(key); ok {
				if _, isDict := inner.(*pickle.Dict); isDict {
					next = inner
					break
				}
			}
		}
		if next == nil {
			return nil, fmt.Errorf("no tensors: the top level holds %s", keys(d))
		}
		root = next
	}
	if obj, ok := root.(*pickle.Object); ok {
		w := walker{seen: map[*pickle.Object]bool{}}
		if err := w.object(obj, "", 0); err != nil {
			return nil, err
		}
		if len(w.found) > 0 {
			return w.found, nil
		}
	}
	return nil, errors.New("no state dict: expected a dict of tensors")
}

// dictTensors returns the tensors that stand directly in a dict.
func dictTensors(d *pickle.Dict) (found []named) {
	for _, e := range d.Entries {
		name, ok := e.Key.(string)
		if ref, isTensor := e.Value.(*tensorRef); ok && isTensor {
			found = append(found, named{name, ref})
		}
	}
	return found
}

// keys lists some of a dict's keys for a message.
func keys(d *pickle.Dict) string {
	var out []string
	for _, e := range d.Entries[:min(len(d.Entries), 8)] {
		if s, ok := e.Key.(string); ok {
			out = append(out, fmt.Sprintf("%.40q", s))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

// walker collects the tensors of a TorchScript module: attributes that are tensors, and those of its submodules.
type walker struct {
	seen  map[*pickle.Object]bool
	found []named
}

const maxModuleDepth = 64

func (w *walker) object(obj *pickle.Object, prefix string, depth int) error {
	state, ok := obj.State.(*pickle.Dict)
	if !ok || w.seen[obj] {
		return nil
	}
	if depth > maxModuleDepth || len(prefix) > 1024 {
		return fmt.Errorf("modules are nested more than %d deep", maxModuleDepth)
	}
	w.seen[obj] = true // a module shared by two parents counts under its first name, as a loop would never end
	for _, e := range state.Entries {
		name, ok := e.Key.(string)
		if !ok {
			continue
		}
		switch v := e.Value.(type) {
		case *tensorRef:
			w.found = append(w.found, named{prefix + name, v})
		case *pickle.Object:
			if err := w.object(v, prefix+name+".", depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
