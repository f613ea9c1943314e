#include "graph.h"

#include "error.h"

#include <chrono>
#include <cstring>
#include <utility>

namespace tia2 {
namespace {

ggml_ptr new_context(size_t tensors_max) {
    ggml_init_params params = {tensors_max * ggml_tensor_overhead() + ggml_graph_overhead_custom(tensors_max, false), nullptr, true};
    ggml_ptr         ctx(ggml_init(params));
    if (!ctx) throw std::bad_alloc();
    return ctx;
}

void check(ggml_status status, ggml_backend_t backend) {
    if (status == GGML_STATUS_ALLOC_FAILED) fail(TIA2_ENOMEM, "%s: out of memory while computing", ggml_backend_name(backend));
    if (status != GGML_STATUS_SUCCESS) fail(TIA2_EBACKEND, "%s: %s", ggml_backend_name(backend), ggml_status_to_string(status));
}

} // namespace

graph_builder::graph_builder(std::string tower, size_t nodes_max, packed_weights *fused)
    : tower_(std::move(tower)), fused_(fused), ctx_(new_context(nodes_max)), nodes_(ggml_new_graph_custom(ctx_.get(), nodes_max, false)),
      failed_(std::make_shared<std::atomic<bool>>(false)) {}

ggml_tensor *graph_builder::input(const char *name, ggml_type type, std::initializer_list<int64_t> shape) {
    ggml_tensor *t = ggml_new_tensor(ctx(), type, (int)shape.size(), shape.begin());
    ggml_set_name(t, name);
    ggml_set_input(t);
    inputs_.push_back({t, {}});
    return t;
}

ggml_tensor *graph_builder::constant(const char *name, std::initializer_list<int64_t> shape, std::vector<float> values) {
    for (const graph_input &in : inputs_)
        if (!in.constant.empty() && !strcmp(in.tensor->name, name)) return in.tensor;
    ggml_tensor *t = input(name, GGML_TYPE_F32, shape);
    if ((size_t)ggml_nelements(t) != values.size()) throw std::logic_error("constant of the wrong size");
    const auto *bytes         = reinterpret_cast<const uint8_t *>(values.data());
    inputs_.back().constant = {bytes, bytes + values.size() * sizeof(float)};
    return t;
}

ggml_tensor *graph_builder::op(const char *name, ggml_tensor *result, std::string shape, double flops,
                               std::initializer_list<const ggml_tensor *> operands) {
    const int begin = ggml_graph_n_nodes(nodes_);
    ggml_build_forward_expand(nodes_, result);
    double bytes = (double)ggml_nbytes(result);
    for (const ggml_tensor *t : operands)
        if (t) bytes += (double)ggml_nbytes(t);
    std::string full = tower_ + "/" + (scope_.empty() ? "" : scope_ + "/") + name;
    ggml_set_name(result, full.substr(0, GGML_MAX_NAME - 1).c_str());
    ops_.push_back({std::move(full), std::move(shape), flops, bytes, begin, ggml_graph_n_nodes(nodes_)});
    return result;
}

graph::graph(graph_builder &&b, std::vector<ggml_tensor *> outputs)
    : ctx_(std::move(b.ctx_)), nodes_(b.nodes_), outputs_(std::move(outputs)), ops_(std::move(b.ops_)), inputs_(std::move(b.inputs_)),
      kept_(std::move(b.kept_)), failed_(std::move(b.failed_)) {
    for (ggml_tensor *t : outputs_) ggml_set_output(t);
}

void graph::check_supported(ggml_backend_t backend) const {
    for (int i = 0; i < ggml_graph_n_nodes(nodes_); i++) {
        const ggml_tensor *t = ggml_graph_node(nodes_, i);
        if (!ggml_backend_supports_op(backend, t))
            fail(TIA2_EBACKEND, "%s does not support %s (%s) with these types; try another --backend or --dtype",
                 ggml_backend_name(backend), ggml_op_desc(t), t->name);
    }
}

void graph::place(ggml_gallocr_t alloc, const graph **alloc_owner) {
    if (*alloc_owner == this) return;
    *alloc_owner = nullptr;
    // Addresses from an earlier placement are void: the memory was given to another graph since.
    for (ggml_tensor *t = ggml_get_first_tensor(ctx_.get()); t; t = ggml_get_next_tensor(ctx_.get(), t)) {
        t->data   = nullptr;
        t->buffer = nullptr;
    }
    // Planned anew: ggml takes the plan of any graph with as many nodes that are as large, whatever reads them.
    if (!ggml_gallocr_reserve(alloc, nodes_) || !ggml_gallocr_alloc_graph(alloc, nodes_)) fail(TIA2_ENOMEM, "the activations of this batch do not fit; try a smaller --batch");
    *alloc_owner = this;
}

void graph::run(ggml_backend_t backend, const std::function<void(const char *, ggml_tensor *)> &fill, std::initializer_list<float *> dst,
                const std::function<void(const graph_op &, uint64_t)> &on_op) {
    for (const graph_input &in : inputs_) {
        if (!in.tensor->buffer) continue; // no op reads it
        if (in.constant.empty())
            fill(in.tensor->name, in.tensor);
        else
            ggml_backend_tensor_set(in.tensor, in.constant.data(), 0, in.constant.size());
    }
    if (on_op)
        run_timed(backend, on_op);
    else
        check(ggml_backend_graph_compute(backend, nodes_), backend);
    if (failed_->exchange(false)) fail(TIA2_ENOMEM, "%s: out of memory while computing", ggml_backend_name(backend));
    for (size_t i = 0; i < outputs_.size(); i++) ggml_backend_tensor_get(outputs_[i], dst.begin()[i], 0, ggml_nbytes(outputs_[i]));
}

// Runs op by op: each is a graph of its own over the same tensors.
void graph::run_timed(ggml_backend_t backend, const std::function<void(const graph_op &, uint64_t)> &on_op) {
    for (const graph_op &op : ops_) {
        const size_t n   = (size_t)(op.node_end - op.node_begin);
        const auto   ctx = new_context(n + 1);
        auto        *one = ggml_new_graph_custom(ctx.get(), n + 1, false);
        for (int i = op.node_begin; i < op.node_end; i++) ggml_graph_add_node(one, ggml_graph_node(nodes_, i));
        const auto start = std::chrono::steady_clock::now();
        check(ggml_backend_graph_compute(backend, one), backend);
        const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
        on_op(op, (uint64_t)ns);
    }
}

double graph::flops() const {
    double sum = 0;
    for (const graph_op &op : ops_) sum += op.flops;
    return sum;
}

} // namespace tia2
