// graph.h: a ggml graph being written (graph_builder) and one ready to run on a device (graph).
#pragma once
#include "devices.h"
#include "gguf_file.h"
#include "packed.h"

#include "ggml-alloc.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace tia2 {

// One op of a forward pass as a person names it: "image/blk.3/attn/qkv". It is one ggml node or a few.
struct graph_op {
    std::string name, shape;
    double      flops, bytes; // multiply and add count as two; each operand and result counts once
    int         node_begin, node_end;
};

// A tensor that is filled before each run.
struct graph_input {
    ggml_tensor         *tensor;
    std::vector<uint8_t> constant; // empty: the caller fills it
};

// Writes a graph op by op. The functions of ops.h take it as their first argument.
class graph_builder {
  public:
    // fused: NULL where ops are to be plain ggml.
    graph_builder(std::string tower, size_t nodes_max, packed_weights *fused = nullptr);

    packed_weights *fused() const { return fused_; }

    ggml_context *ctx() const { return ctx_.get(); }

    // All names of ops between are prefixed with scope, until the next call.
    void scope(const std::string &s) { scope_ = s; }

    ggml_tensor *input(const char *name, ggml_type type, std::initializer_list<int64_t> shape);
    // An input with fixed values; the same name is the same tensor.
    ggml_tensor *constant(const char *name, std::initializer_list<int64_t> shape, std::vector<float> values);

    // Keeps what a custom node of the graph points to alive for as long as the graph.
    template <class T> T *keep(T value) {
        auto p = std::make_shared<T>(std::move(value));
        kept_.push_back(p);
        return p.get();
    }

    // What a custom node sets where it failed (memory ran out): no exception may leave ggml's workers.
    std::atomic<bool> *failed() const { return failed_.get(); }

    // Ends an op: everything that `result` needs and that is not in the graph yet belongs to it.
    ggml_tensor *op(const char *name, ggml_tensor *result, std::string shape, double flops,
                    std::initializer_list<const ggml_tensor *> operands);

  private:
    friend class graph;
    std::string              tower_, scope_;
    packed_weights          *fused_;
    ggml_ptr                 ctx_;
    ggml_cgraph             *nodes_;
    std::vector<graph_op>    ops_;
    std::vector<graph_input> inputs_;

    std::vector<std::shared_ptr<void>> kept_;
    std::shared_ptr<std::atomic<bool>> failed_;
};

// A finished graph: shape fixed, ready to run.
class graph {
  public:
    graph(graph_builder &&b, std::vector<ggml_tensor *> outputs);

    // Throws TIA2_EBACKEND where the device lacks an op.
    void check_supported(ggml_backend_t backend) const;

    // Places all tensors in memory that `alloc` owns; it grows when it must. Repeating is free until another graph took
    // the memory (alloc_owner tells).
    void place(ggml_gallocr_t alloc, const graph **alloc_owner);

    // Runs it. fill is called once for each input that is not constant and that an op reads; then the outputs are copied to
    // dst, one each. on_op, when set, is called after every op with its duration; the ops then do not overlap.
    void run(ggml_backend_t backend, const std::function<void(const char *name, ggml_tensor *)> &fill, std::initializer_list<float *> dst,
             const std::function<void(const graph_op &, uint64_t ns)> &on_op);

    double flops() const;

  private:
    void run_timed(ggml_backend_t backend, const std::function<void(const graph_op &, uint64_t ns)> &on_op);

    ggml_ptr                 ctx_;
    ggml_cgraph             *nodes_;
    std::vector<ggml_tensor *> outputs_;
    std::vector<graph_op>    ops_;
    std::vector<graph_input> inputs_;

    std::vector<std::shared_ptr<void>> kept_;
    std::shared_ptr<std::atomic<bool>> failed_;
};

} // namespace tia2
