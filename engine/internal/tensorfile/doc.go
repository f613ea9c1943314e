// Package tensorfile reads the checkpoint files that deep learning code leaves: safetensors, PyTorch's zip and older
// pickle files, and TorchScript archives, alone or in shards.
//
// Open gives the named tensors with their shapes and types; values are read when asked for, one tensor at a time, from
// the file at their place, so a checkpoint of some gigabytes costs little memory. Wrappers (a training checkpoint's
// "state_dict", the "module." before names) are taken off. Nothing in a file is executed: see torch.go for the list of
// what a pickle may name.
//
// Source: https://github.com/huggingface/safetensors (README, tensor.rs), torch/serialization.py, torch/_utils.py.
package tensorfile
