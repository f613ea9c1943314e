// Writes q8_0.bin: float32 values, then ggml's q8_0 blocks of them.
//
//   cc make_q8.c -o make_q8 $(pkg-config --cflags --libs ggml) -lggml-base -lm && ./make_q8 > q8_0.bin
#include <ggml.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64 };

static uint32_t state = 1;

static float uniform(void) { // -1 to 1
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

int main(void) {
    static float x[32 * ROWS];
    static unsigned char y[34 * ROWS];
    for (int r = 0; r < ROWS; r++) {
        float scale = powf(10.0f, (float)(r % 12) - 8.0f);
        for (int i = 0; i < 32; i++) x[32 * r + i] = uniform() * scale;
        if (r == 1) memset(x + 32 * r, 0, 32 * sizeof(float));
        if (r % 4 == 2) // ties: values halfway between two steps
            for (int i = 0; i < 32; i++) x[32 * r + i] = i == 0 ? 127.0f : (float)(i - 16) + 0.5f;
    }
    ggml_quantize_chunk(GGML_TYPE_Q8_0, x, y, 0, ROWS, 32, NULL);
    fwrite(x, sizeof(float), 32 * ROWS, stdout);
    fwrite(y, 1, sizeof(y), stdout);
    return 0;
}
