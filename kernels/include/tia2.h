// tia2.h: the C ABI of tia2-engine, the only header that Go (or any other caller) includes.
//
// Conventions, for every function:
//   - Status: functions that can fail return a tia2_status and, when it is not TIA2_OK, fill `err` (may be NULL).
//     `err` belongs to the caller; there is no global or thread-local error.
//   - Ownership: handles (tia2_model) are made and freed by this library; every buffer is the caller's, is only
//     borrowed for the call, and no pointer to it is kept. A (NULL, 0) buffer is legal.
//   - On failure nothing is allocated, outputs are unspecified but never read back, and the handle stays usable.
//   - An enum is passed as int32_t: any other value is an error, where a C++ enum would make it undefined behaviour.
//   - Nothing throws, nothing prints, nothing calls back: log lines are fetched with tia2_log_drain.
//   - Threads: free functions are safe from any thread at once. A handle is used by one thread at a time.
// Shapes: B images or texts, T tokens, D embedding width, S image side, P prompts of one prompt set, or pairs.
#ifndef TIA2_H
#define TIA2_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define TIA2_NOEXCEPT noexcept
#else
#define TIA2_NOEXCEPT
#endif

typedef enum tia2_status {
    TIA2_OK = 0,
    TIA2_EINVAL = 1,    // an argument is out of its documented range
    TIA2_EMODEL = 2,    // the model file is damaged, incomplete or of an unknown kind
    TIA2_ENOMEM = 3,    // host or device memory ran out, or a configured limit was passed
    TIA2_EIO = 4,       // a file cannot be read
    TIA2_EBACKEND = 5,  // no such backend or device, or it failed while computing
    TIA2_EIMAGE = 6,    // the picture is damaged, of an unknown format or over a limit
    TIA2_EINTERNAL = 7, // a bug of ours
} tia2_status;

typedef struct tia2_error {
    char msg[512]; // UTF-8, NUL-terminated, one line, says what was expected
} tia2_error;

// ---- program and machine -------------------------------------------------------------------------------------------

typedef struct tia2_versions {
    char ggml[32], onednn[32], jpeg[32], png[32], webp[32]; // as the loaded libraries report them
    char isa[32];                                           // the level of kernels in use: "avx512bf16", "scalar", ...
} tia2_versions;

void tia2_versions_get(tia2_versions *out) TIA2_NOEXCEPT;

// Chooses the level of the CPU kernels: "auto", "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "neon".
// TIA2_EINVAL if this machine lacks it. Takes effect for calls that start later. The environment variable TIA2_CPU sets
// it at start-up.
tia2_status tia2_isa_set(const char *level, tia2_error *err) TIA2_NOEXCEPT;

typedef struct tia2_device {
    char     name[64];        // ggml's name: "CPU", "Vulkan0", "CUDA0", ...
    char     backend[16];     // "cpu", "vulkan", "cuda", "metal", or ggml's lower-case name of another
    char     description[128];
    uint64_t memory_free_bytes, memory_total_bytes;
} tia2_device;

// Fills up to `cap` devices, GPUs first, then the CPU, then GPUs simulated in software, and returns how many there are.
// Loads the installed ggml plug-ins at the first call.
int32_t tia2_devices_list(tia2_device *out, int32_t cap) TIA2_NOEXCEPT;

// Copies log lines kept since the last call (newest 64 KiB; '\n' after each) into buf, NUL-terminated, and forgets them.
// Returns the number of bytes without the NUL.
size_t tia2_log_drain(char *buf, size_t cap) TIA2_NOEXCEPT;

// How many handles are alive in this process; zero after everything was closed.
int64_t tia2_live_handles(void) TIA2_NOEXCEPT;

typedef struct tia2_peak {
    double f32_gflops, bf16_gflops, int8_gops; // multiply and add counted as two; 0 where the CPU has no such instruction
    double bandwidth_gbs;                      // bytes read per second from memory, 1e9, by all threads
} tia2_peak;

// Measures this machine with FMA loops and a streaming read on n_threads threads. Takes about a second.
tia2_status tia2_peak_measure(int32_t n_threads, tia2_peak *out, tia2_error *err) TIA2_NOEXCEPT;

// ---- models --------------------------------------------------------------------------------------------------------

typedef struct tia2_model tia2_model;

typedef struct tia2_model_options {
    const char *device;    // name of a tia2_device, in any case
    int32_t     n_threads; // CPU threads, >= 1
} tia2_model_options;

typedef struct tia2_model_info {
    char     family[16];    // "clip", "blip", "blip2"
    char     device[64];
    int32_t  embed_dim;     // D; 0: the model has no embeddings (ImageReward)
    int32_t  image_vectors; // V, embeddings of an image: 1; BLIP-2: one for each query
    int32_t  state_width;   // W of the states of an image [T, W] that pairs are computed from; 0: no cross encoder
    int32_t  pair_outputs;  // values of a pair: 2 logits (no match, match), ImageReward 1; 0: no cross encoder
    int32_t  image_size;    // S
    int32_t  context;    // most tokens of one text, special ones included
    int32_t  vocab_size;
    int32_t  image_tokens;   // T of the image tower, class token included
    float    logit_scale;    // already exp()-ed; 1 where the model has none
    uint64_t weights_bytes;  // on the device
    double   image_flops;    // of one image through its tower
    double   text_flops_per_token, text_flops_attention; // one text of T tokens costs per_token*T + attention*T*T
    double   text_flops_pooled;                          // ... + pooled: the projection of its one pooled row
} tia2_model_info;

// Opens a GGUF file (as `tia2-engine convert` writes it): maps it, checks every tensor and uploads the weights once.
// A file with the key `tia2.random.seed` holds no data: its weights are drawn from that seed.
tia2_status tia2_model_open(const char *path, const tia2_model_options *opt, tia2_model **out, tia2_error *err) TIA2_NOEXCEPT;

void tia2_model_info_get(const tia2_model *m, tia2_model_info *out) TIA2_NOEXCEPT;

typedef enum tia2_pixel_type { TIA2_PIXELS_U8 = 0, TIA2_PIXELS_F32 = 1 } tia2_pixel_type;

// Encodes B images. pixels: u8 [B, S, S, 3] (normalised here with the model's mean and std) or f32 [B, 3, S, S] already
// normalised; type: tia2_pixel_type. dst: f32 [B, V, D], the embeddings, L2-normalised when `normalize` is not 0; states:
// f32 [B, T, W], what tia2_match takes. Either may be (NULL, 0), not both; what is not asked for is not computed.
tia2_status tia2_encode_images(tia2_model *m, const void *pixels, int32_t type, int32_t B, int32_t normalize, float *dst,
                               size_t dst_len, float *states, size_t states_len, tia2_error *err) TIA2_NOEXCEPT;

// Embeds B texts. ids: the token ids of all texts one after another, each from its first special token to the token it
// is pooled at (CLIP: the first EOT), which comes last; BERT's texts are pooled at their first token and end at their
// last. offsets: [B + 1], text b is ids[offsets[b]..offsets[b+1]). dst: f32 [B, D], as above.
tia2_status tia2_encode_texts(tia2_model *m, const int32_t *ids, const int32_t *offsets, int32_t B, int32_t normalize,
                              float *dst, size_t dst_len, tia2_error *err) TIA2_NOEXCEPT;

// Computes n pairs of images and texts, which the cross encoder reads together: pair p is image image_of[p] with text
// text_of[p]. states: f32 [images, T, W], of tia2_encode_images; ids, offsets: of the texts, as tia2_encode_texts takes them.
// dst: f32 [n, pair_outputs].
// What belongs to an image alone (keys and values of the cross-attention) is computed once for pairs of the image that
// stand together, what belongs to a text alone (its first self-attention) once a call. The pairs are computed in passes, so
// that memory does not grow with their number.
tia2_status tia2_match(tia2_model *m, const float *states, int32_t images, const int32_t *ids, const int32_t *offsets,
                       int32_t texts, const int32_t *image_of, const int32_t *text_of, int32_t n, float *dst, size_t dst_len,
                       tia2_error *err) TIA2_NOEXCEPT;

// What tia2_match costs for all pairs of so many images with these texts (offsets [texts + 1]), in FLOPs; 0 for a model
// without cross encoder.
double tia2_match_flops(tia2_model *m, int32_t images, const int32_t *offsets, int32_t texts) TIA2_NOEXCEPT;

void tia2_model_free(tia2_model *m) TIA2_NOEXCEPT; // NULL is fine

typedef struct tia2_op_sample {
    char     name[96];  // tower/layer/op: "image/blk.3/attn/qkv"
    char     shape[64]; // "1600x768x2304 f32"
    uint64_t count, ns;
    double   flops, bytes; // summed over `count` runs
} tia2_op_sample;

// While on, every op of every call is timed (slower: ops no longer overlap). Turning it on forgets earlier samples.
void tia2_profile_set(tia2_model *m, int32_t on) TIA2_NOEXCEPT;
// Fills up to `cap` samples, in order of first run, and returns how many there are.
int32_t tia2_profile_read(const tia2_model *m, tia2_op_sample *out, int32_t cap) TIA2_NOEXCEPT;

// ---- pictures ------------------------------------------------------------------------------------------------------

typedef enum tia2_pipeline {
    TIA2_PIPELINE_OPENAI = 0,      // resize (in the picture's own mode) > centre crop, half-even > RGB
    TIA2_PIPELINE_OPEN_CLIP = 1,   // the same steps as openai
    TIA2_PIPELINE_HF_CLIP = 2,     // RGB > resize > centre crop, floor
    TIA2_PIPELINE_BLIP_SQUASH = 3, // RGB > resize to S x S
    TIA2_PIPELINE_HPSV2 = 4,       // RGB > float letterbox (antialiased, torchvision >= 0.17)
    TIA2_PIPELINE_OPEN_CLIP_SQUASH = 5, // resize to S x S (in the picture's own mode) > RGB
} tia2_pipeline;

typedef struct tia2_image_limits {
    uint64_t pixels_max; // width * height that may be decoded; 0: PIL's 178,956,970
    uint64_t bytes_max;  // size of the encoded file; 0: 256 MiB
} tia2_image_limits;

typedef struct tia2_image_spec {
    int32_t           pipeline; // tia2_pipeline
    int32_t           size;     // S, 1..4096
    float             mean[3], std[3];
    tia2_image_limits limits;
} tia2_image_spec;

typedef struct tia2_image_info {
    int32_t width, height;
    char    format[8]; // "JPEG", "PNG", "WEBP", "GIF", "BMP", as PIL names them
    char    mode[8];   // PIL's mode: "RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"
} tia2_image_info;

// Reads the header only.
tia2_status tia2_image_probe(const uint8_t *data, size_t data_bytes, const tia2_image_limits *limits, tia2_image_info *out,
                             tia2_error *err) TIA2_NOEXCEPT;

// Decodes to u8 RGB [height, width, 3] as PIL's convert("RGB") does. dst_len must be width * height * 3 of the probe.
tia2_status tia2_image_decode_rgb(const uint8_t *data, size_t data_bytes, const tia2_image_limits *limits, uint8_t *dst,
                                  size_t dst_len, tia2_error *err) TIA2_NOEXCEPT;

// File bytes to what the model sees. dst: u8 [S, S, 3] (not for TIA2_PIPELINE_HPSV2, which makes no u8) or f32 [3, S, S]
// normalised. dst_len in elements, 3 * S * S.
tia2_status tia2_image_preprocess(const uint8_t *data, size_t data_bytes, const tia2_image_spec *spec, int32_t type,
                                  void *dst, size_t dst_len, tia2_error *err) TIA2_NOEXCEPT; // type: tia2_pixel_type

// ---- TextNorm ------------------------------------------------------------------------------------------------------

typedef enum tia2_minmax { TIA2_MINMAX_IMAGE = 0, TIA2_MINMAX_SET = 1 } tia2_minmax;

// In one pass: similarities of images with the prompts of prompt sets, and their TextNorm.
//   images [B, D], texts [N, D]: rows; set_of [B]: which prompt set an image is scored against;
//   set_offsets [n_sets + 1]: set s is rows set_offsets[s]..set_offsets[s+1] of texts, its first row the prompt itself.
//   rewards = reward_scale * image . text; probability = softmax(scale * minmax(rewards))[0], min and max taken over the
//   image's own prompts (TIA2_MINMAX_IMAGE) or over all images of its set (TIA2_MINMAX_SET). Equal rewards give 1/P.
// raw [B]: the reward of the prompt itself; may be NULL. norm [B]: its TextNorm.
tia2_status tia2_textnorm(const float *images, int32_t B, const float *texts, int32_t N, int32_t D, const int32_t *set_of,
                          const int32_t *set_offsets, int32_t n_sets, float reward_scale, float scale, int32_t minmax, float *raw,
                          float *norm, tia2_error *err) TIA2_NOEXCEPT; // minmax: tia2_minmax

#ifdef __cplusplus
}
#endif
#endif
