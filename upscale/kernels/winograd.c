/* 3x3 convolution of channels-last maps by Winograd's F(4x4, 3x3).

   Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4.3.
   A tile of 4x4 outputs depends on 6x6 inputs. The transformed convolution is 36 small matrix
   products, with a quarter of the multiplications. Threads take strips of tiles whose transforms fit
   into the second-level cache until none are left. */

#include "layer.h"

enum {
    POINTS = 36,             /* 6x6 values of a transformed tile */
    STRIP = 36,              /* tiles that are transformed together */
    CHUNK = 64,              /* input channels that are transformed together */
    PANEL = 2 * LANES,       /* output channels of one register block */
    BLOCK = LANES == 16 ? 12 : 6, /* tiles of one register block; divides STRIP */
    PADDING = 16,            /* keeps the 36 points of a tile in different cache sets */
};

int64_t panel_size(void) { return PANEL; }

/* The caller has checked the CPU. */
int64_t ready(void) { return 1; }

/* Size in floats: transformed weights, transformed inputs, and products. */
int64_t workspace_size(int64_t channels, int64_t panels) {
    int64_t width = panels * PANEL;
    return POINTS * (channels * width + STRIP * (CHUNK + width) + 2 * PADDING);
}

/* --- weights ---------------------------------------------------------------------------------- */

/* Compute G w for one column of a 3x3 kernel. */
INLINE void kernel_points(const vector in[3], vector out[6]) {
    vector even = (in[0] + in[2]) * (1 / 6.f), odd = in[1] * (1 / 6.f);
    vector far = in[0] * (1 / 24.f) + in[2] * (1 / 6.f), near = in[1] * (1 / 12.f);
    out[0] = in[0] * 0.25f;
    out[1] = -even - odd;
    out[2] = odd - even;
    out[3] = far + near;
    out[4] = far - near;
    out[5] = in[2];
}

/* Transform the kernels (3, 3, channels, width) of one input channel. */
static void transform_kernels(const struct job *job, int64_t channel, float *weights) {
    int64_t width = job->panels * PANEL, first = channel / CHUNK * CHUNK;
    int64_t depth = smaller(job->channels - first, CHUNK);
    float *to = weights + POINTS * first * width + (channel - first) * PANEL;
    for (int64_t n = 0; n < width; n += LANES) {
        float *place = to + n / PANEL * depth * PANEL + n % PANEL;
        vector half[18], in[3], out[6];
        for (int column = 0; column < 3; column++) {
            UNROLL for (int row = 0; row < 3; row++) {
                int64_t tap = (row * 3 + column) * job->channels;
                in[row] = load((const float *)job->weights + (tap + channel) * width + n);
            }
            kernel_points(in, out);
            UNROLL for (int row = 0; row < 6; row++) half[row * 3 + column] = out[row];
        }
        for (int row = 0; row < 6; row++) {
            kernel_points(half + row * 3, out);
            UNROLL for (int column = 0; column < 6; column++)
                store(place + (row * 6 + column) * depth * width, out[column]);
        }
    }
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* Compute B^T d for one row of a 6x6 tile. */
INLINE void input_points(const vector in[6], vector out[6]) {
    vector even = in[4] - 4.f * in[2], odd = in[3] - 4.f * in[1];
    vector far = in[4] - in[2], near = 2.f * (in[3] - in[1]);
    out[0] = 4.f * in[0] - 5.f * in[2] + in[4];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = far + near;
    out[4] = far - near;
    out[5] = 4.f * in[1] - 5.f * in[3] + in[5];
}

/* Find the 6x6 pixels of a tile; `zeros` replaces pixels outside the map. */
INLINE void find_pixels(const struct job *job, const struct map *map, int64_t top, int64_t left,
                        const float *zeros, const float *pixels[POINTS]) {
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            int64_t y = top + i, x = left + j;
            int inside = y >= 0 && y < job->height && x >= 0 && x < job->width;
            y >>= job->doublings, x >>= job->doublings;
            pixels[i * 6 + j] =
                inside ? (const float *)map->data + y * map->row + x * map->pixel : zeros;
        }
}

/* Transform `channels` channels of one tile to 36 rows that are `distance` floats apart. */
INLINE void transform_tile(const float *const pixels[POINTS], int64_t channels, float *to,
                           int64_t distance) {
    for (int64_t c = 0; c < channels; c += LANES) {
        vector half[POINTS], in[6], out[6];
        for (int j = 0; j < 6; j++) {
            UNROLL for (int i = 0; i < 6; i++) in[i] = load(pixels[i * 6 + j] + c);
            input_points(in, out);
            UNROLL for (int i = 0; i < 6; i++) half[i * 6 + j] = out[i];
        }
        for (int i = 0; i < 6; i++) {
            input_points(half + i * 6, out);
            UNROLL for (int j = 0; j < 6; j++) store(to + (i * 6 + j) * distance + c, out[j]);
        }
    }
}

/* Transform input channels [first, first + depth) of tiles to [point][tile][depth].

   Tiles after the last one complete a register block; their values are not used. */
static void transform_inputs(const struct job *job, int64_t tile, int64_t count, int64_t first,
                             int64_t depth, float *to) {
    static const float zeros[CHUNK];
    int64_t across = (job->columns + 3) / 4, filled = (count + BLOCK - 1) / BLOCK * BLOCK;
    for (int64_t t = 0; t < filled; t++) {
        int64_t top = (tile + t) / across * 4 - job->padding;
        int64_t left = (tile + t) % across * 4 - job->padding;
        int64_t start = 0; /* the first channel of this input among those of all inputs */
        for (int64_t i = 0; i < job->input_count; start += job->inputs[i++].channels) {
            const struct map *map = &job->inputs[i];
            int64_t from = first > start ? first - start : 0;
            int64_t until = smaller(first + depth - start, map->channels);
            if (from >= until) continue;
            struct map part = {(const float *)map->data + from, map->row, map->pixel, until - from};
            const float *pixels[POINTS];
            find_pixels(job, &part, top, left, zeros, pixels);
            transform_tile(pixels, part.channels, to + t * depth + start + from - first,
                           STRIP * depth + PADDING);
        }
    }
}

/* --- products --------------------------------------------------------------------------------- */

/* Multiply tiles (BLOCK x depth) by weights (depth x PANEL), and store the result in or add it to
   products (BLOCK x PANEL, with rows `width` floats apart). */
INLINE void multiply(const float *tiles, const float *weights, int64_t depth, float *products,
                     int64_t width, int add) {
    vector sums[BLOCK][2];
    UNROLL for (int t = 0; t < BLOCK; t++) {
        sums[t][0] = add ? load(products + t * width) : (vector){0};
        sums[t][1] = add ? load(products + t * width + LANES) : (vector){0};
    }
    for (int64_t k = 0; k < depth; k++) {
        vector left = load(weights + k * PANEL), right = load(weights + k * PANEL + LANES);
        UNROLL for (int t = 0; t < BLOCK; t++) {
            sums[t][0] += tiles[t * depth + k] * left;
            sums[t][1] += tiles[t * depth + k] * right;
        }
    }
    UNROLL for (int t = 0; t < BLOCK; t++) {
        store(products + t * width, sums[t][0]);
        store(products + t * width + LANES, sums[t][1]);
    }
}

/* Compute the 36 products of a strip, each (tiles x depth) times (depth x width). */
static void multiply_points(const struct job *job, const float *tiles, int64_t count,
                            int64_t first, int64_t depth, const float *weights,
                            float *products) {
    int64_t width = job->panels * PANEL;
    weights += POINTS * first * width;
    int add = first > 0;
    for (int point = 0; point < POINTS; point++) {
        for (int64_t n = 0; n < width; n += PANEL, weights += depth * PANEL)
            for (int64_t t = 0; t < count; t += BLOCK)
                multiply(tiles + t * depth, weights, depth, products + t * width + n, width, add);
        tiles += STRIP * depth + PADDING;
        products += STRIP * width + PADDING;
    }
}

/* --- outputs ---------------------------------------------------------------------------------- */

/* Compute A^T m for one row of 6 points. */
INLINE void output_values(const vector in[6], vector out[4]) {
    vector even = in[1] + in[2], odd = in[1] - in[2], far = in[3] + in[4], near = in[3] - in[4];
    out[0] = in[0] + even + far;
    out[1] = odd + 2.f * near;
    out[2] = even + 4.f * far;
    out[3] = odd + 8.f * near + in[5];
}

INLINE vector load_some(const float *from, int64_t count) {
    if (count >= LANES) return load(from);
    vector value = {0};
    for (int i = 0; i < count; i++) value[i] = from[i];
    return value;
}

INLINE void store_some(float *to, vector value, int64_t count) {
    if (count >= LANES) store(to, value);
    else
        for (int i = 0; i < count; i++) to[i] = value[i];
}

/* Apply bias, activation and residuals to one vector of channels from `n` on of a tile. */
INLINE void finish(const struct job *job, const vector half[24], int64_t top, int64_t left,
                   int64_t rows, int64_t columns, int64_t n, int64_t count) {
    vector bias = load(job->bias + n), slope = load(job->slope + n);
    UNROLL for (int i = 0; i < rows; i++) {
        vector out[4];
        output_values(half + i * 6, out);
        UNROLL for (int j = 0; j < columns; j++) {
            vector value = activate(out[j] + bias, slope);
            for (int64_t r = 0; r < job->residual_count; r++) {
                const struct map *map = &job->residuals[r];
                int64_t place = (top + i) * map->row + (left + j) * map->pixel + n;
                value = job->scale * value + load_some((const float *)map->data + place, count);
            }
            int64_t place = (top + i) * job->output_row + (left + j) * job->output_pixel + n;
            store_some((float *)job->output + place, value, count);
        }
    }
}

static void transform_outputs(const struct job *job, int64_t tile, int64_t count,
                              const float *products) {
    int64_t across = (job->columns + 3) / 4, width = job->panels * PANEL;
    for (int64_t t = 0; t < count; t++) {
        int64_t top = (tile + t) / across * 4, left = (tile + t) % across * 4;
        int64_t rows = smaller(job->rows - top, 4), columns = smaller(job->columns - left, 4);
        for (int64_t n = 0; n < job->outputs; n += LANES) {
            const float *from = products + t * width + n;
            int64_t outputs = job->outputs - n;
            vector half[24], in[6], out[4];
            for (int j = 0; j < 6; j++) {
                UNROLL for (int i = 0; i < 6; i++)
                    in[i] = load(from + (i * 6 + j) * (STRIP * width + PADDING));
                output_values(in, out);
                UNROLL for (int i = 0; i < 4; i++) half[i * 6 + j] = out[i];
            }
            if (rows == 4 && columns == 4 && outputs >= LANES) /* constant bounds let the compiler unroll */
                finish(job, half, top, left, 4, 4, n, LANES);
            else
                finish(job, half, top, left, rows, columns, n, outputs);
        }
    }
}

/* Take the next tiles for a thread, from `first` on, and return their number, 0 at the end: a strip,
   or the thread's share of the remaining tiles, so that all threads finish together. */
static int64_t take_tiles(struct job *job, int64_t tiles, int64_t *first) {
    int64_t count;
    *first = atomic_load(&job->next_strip);
    do {
        int64_t left = tiles - *first, share = (left + job->threads - 1) / job->threads;
        count = smaller(smaller((share + BLOCK - 1) / BLOCK * BLOCK, STRIP), left);
    } while (count > 0 &&
             !atomic_compare_exchange_weak(&job->next_strip, first, *first + count));
    return count;
}

/* Each thread transforms all weights itself: fetching them from another core took longer (measured
   with two threads). */
static void work(struct job *job) {
    int64_t tiles = (job->rows + 3) / 4 * ((job->columns + 3) / 4), tile, count;
    float *weights = own_workspace(job);
    float *inputs = weights + POINTS * job->channels * job->panels * PANEL;
    float *products = inputs + POINTS * (STRIP * CHUNK + PADDING);
    for (int64_t channel = 0; channel < job->channels; channel++)
        transform_kernels(job, channel, weights);
    while ((count = take_tiles(job, tiles, &tile)) > 0) {
        for (int64_t first = 0; first < job->channels; first += CHUNK) {
            int64_t depth = smaller(job->channels - first, CHUNK);
            transform_inputs(job, tile, count, first, depth, inputs);
            multiply_points(job, inputs, count, first, depth, weights, products);
        }
        transform_outputs(job, tile, count, products);
    }
}
