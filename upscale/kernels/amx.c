/* 3x3 convolution of channels-last bfloat16 maps with the matrix registers of Intel's AMX.

   A register holds 16 rows of 32 bfloat16: 16 adjacent pixels and 32 channels of an input, or 16
   pairs of channels and 16 outputs of the weights (Intel, "Architecture Instruction Set Extensions",
   chapter 3, TDPBF16PS). The convolution is the sum of such products in fp32 over nine taps and all
   channels; each tap reads the same inputs, shifted by one pixel or row.

   Emulating fp32 with three bfloat16 products was measured, too: up to 1.5 times as fast as
   Winograd's algorithm in fp32 on small tiles, equally fast on tiles of 256 pixels, but less exact. */

#define LANES 16
#include "layer.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SIDE = 16,            /* rows of a register: pixels, or pairs of channels */
    DEPTH = 32,           /* channels of a register */
    REGISTER = SIDE * DEPTH,
    PANEL = SIDE,         /* output channels computed together */
    BLOCK = 4,            /* rows of 16 pixels computed together */
    TAPS = 9,
    ROWS = 2 * BLOCK, COLUMNS = 64, /* outputs of one unit of work of a thread */
    AROUND_ROWS = ROWS + 2, AROUND_COLUMNS = COLUMNS + 2,
    CHUNK = AROUND_ROWS * AROUND_COLUMNS * DEPTH, /* values of their inputs in 32 channels */
    RESULTS = BLOCK * SIDE * SIDE,
};

typedef uint16_t bfloat;

int64_t panel_size(void) { return PANEL; }

INLINE int64_t chunks_of(int64_t channels) { return (channels + DEPTH - 1) / DEPTH; }

/* Size in floats. */
int64_t workspace_size(int64_t channels, int64_t panels) {
    (void)panels;
    return chunks_of(channels) * CHUNK / 2 + RESULTS;
}

/* Return whether the CPU has the registers and Linux allows this process to use them. */
int64_t ready(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return 0;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

INLINE __m256i rounded(__m512 value) { return (__m256i)_mm512_cvtneps_pbh(value); }

INLINE __m512 widened(__m256i value) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(value), 16));
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* Offset of a group of 16 channels; two groups make a chunk. */
INLINE int64_t place_of(int64_t group) { return group / 2 * CHUNK + group % 2 * SIDE; }

/* Copy a map around a block of outputs to [chunk][row][column][channel], zero outside the map; its
   first channels are group `group`. */
INLINE void copy_map(const struct job *job, const struct map *map, int64_t group, int64_t top,
                     int64_t left, int64_t rows, int64_t columns, bfloat *to) {
    for (int64_t r = 0; r < rows; r++, to += AROUND_COLUMNS * DEPTH) {
        int64_t y = top + r, line = (y >> job->doublings) * map->row;
        for (int64_t c = 0; c < columns; c++) {
            int64_t x = left + c;
            int inside = y >= 0 && y < job->height && x >= 0 && x < job->width;
            const bfloat *from =
                (const bfloat *)map->data + line + (x >> job->doublings) * map->pixel;
            for (int64_t g = 0; g < map->channels / SIDE; g++) {
                __m256i values = _mm256_setzero_si256();
                if (inside) values = _mm256_loadu_si256((const void *)(from + g * SIDE));
                _mm256_store_si256((void *)(to + c * DEPTH + place_of(group + g)), values);
            }
        }
    }
}

static void copy_inputs(const struct job *job, int64_t top, int64_t left, int64_t rows,
                        int64_t columns, bfloat *to) {
    static const struct map nothing = {.channels = SIDE};
    int64_t group = 0;
    top -= job->padding, left -= job->padding, rows += 2, columns += 2;
    for (int64_t i = 0; i < job->input_count; group += job->inputs[i++].channels / SIDE)
        copy_map(job, &job->inputs[i], group, top, left, rows, columns, to);
    if (group % 2) /* zeros in the other half of the last chunk */
        copy_map(job, &nothing, group, INT32_MIN, left, rows, columns, to);
}

/* --- products --------------------------------------------------------------------------------- */

enum { PIXEL_STRIDE = DEPTH * sizeof(bfloat), PAIR_STRIDE = DEPTH * sizeof(bfloat) };

/* Registers 0 to 3 hold the sums of a row of pixels each, 6 the weights, the others pixels. */
#define MULTIPLY_ROW(row, pixels)                                                          \
    _tile_loadd(pixels, from + (row) * AROUND_COLUMNS * DEPTH, PIXEL_STRIDE);              \
    _tile_dpbf16ps(row, pixels, 6)
#define STORE_ROW(row) _tile_stored(row, results + (row) * SIDE * SIDE, SIDE * sizeof(float))

/* Compute the sums over all taps and channels for BLOCK rows of 16 pixels and one panel. */
static void sum_products(const bfloat *pixels, const bfloat *weights, int64_t chunks,
                         float *results) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t chunk = 0; chunk < chunks; chunk++, pixels += CHUNK)
        for (int dy = 0; dy < 3; dy++)
            for (int dx = 0; dx < 3; dx++, weights += REGISTER) {
                const bfloat *from = pixels + (dy * AROUND_COLUMNS + dx) * DEPTH;
                _tile_loadd(6, weights, PAIR_STRIDE);
                MULTIPLY_ROW(0, 4);
                MULTIPLY_ROW(1, 5);
                MULTIPLY_ROW(2, 7);
                MULTIPLY_ROW(3, 4);
            }
    STORE_ROW(0);
    STORE_ROW(1);
    STORE_ROW(2);
    STORE_ROW(3);
}

/* --- outputs ---------------------------------------------------------------------------------- */

INLINE __mmask16 first_of(int64_t count) { return count >= SIDE ? 0xffff : (1u << count) - 1; }

/* Apply bias, activation and residuals to 16 channels from `n` on of adjacent pixels. */
static void finish(const struct job *job, const float *results, int64_t y, int64_t x,
                   int64_t pixels, int64_t n) {
    __mmask16 some = first_of(job->outputs - n);
    vector bias = load(job->bias + n), slope = load(job->slope + n);
    for (int64_t i = 0; i < pixels; i++) {
        vector value = activate(load(results + i * SIDE) + bias, slope);
        for (int64_t r = 0; r < job->residual_count; r++) {
            const struct map *map = &job->residuals[r];
            int64_t place = y * map->row + (x + i) * map->pixel + n;
            const bfloat *from = (const bfloat *)map->data + place;
            value = job->scale * value + (vector)widened(_mm256_maskz_loadu_epi16(some, from));
        }
        bfloat *to = (bfloat *)job->output + y * job->output_row + (x + i) * job->output_pixel + n;
        _mm256_mask_storeu_epi16(to, some, rounded((__m512)value));
    }
}

/* Compute one unit of work. Weights are [panel][chunk][tap][pair of channels][output][2]. */
static void convolve_strip(const struct job *job, int64_t top, int64_t left, bfloat *inputs,
                           float *results) {
    int64_t rows = smaller(job->rows - top, ROWS), columns = smaller(job->columns - left, COLUMNS);
    int64_t chunks = chunks_of(job->channels);
    copy_inputs(job, top, left, rows, columns, inputs);
    for (int64_t panel = 0; panel < job->panels; panel++) {
        const bfloat *weights = (const bfloat *)job->weights + panel * chunks * TAPS * REGISTER;
        for (int64_t y = 0; y < rows; y += BLOCK)
            for (int64_t x = 0; x < columns; x += SIDE) {
                const bfloat *pixels = inputs + (y * AROUND_COLUMNS + x) * DEPTH;
                sum_products(pixels, weights, chunks, results);
                for (int64_t row = 0; row < smaller(rows - y, BLOCK); row++)
                    finish(job, results + row * SIDE * SIDE, top + y + row, left + x,
                           smaller(columns - x, SIDE), panel * PANEL);
            }
    }
}

static void configure(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) registers = {.palette = 1};
    for (int i = 0; i < 8; i++) registers.row_bytes[i] = 64, registers.rows[i] = SIDE;
    _tile_loadconfig(&registers);
}

static void work(struct job *job) {
    float *own = own_workspace(job);
    int64_t across = (job->columns + COLUMNS - 1) / COLUMNS, strip;
    int64_t strips = (job->rows + ROWS - 1) / ROWS * across;
    configure();
    while ((strip = atomic_fetch_add(&job->next_strip, 1)) < strips)
        convolve_strip(job, strip / across * ROWS, strip % across * COLUMNS,
                       (bfloat *)(own + RESULTS), own);
    _tile_release();
}
