/* 3x3 convolution of channels-last maps by Winograd's F(6x6, 3x3).

   Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), with the points
   0, 1, -1, 2, -2, 1/2, -1/2 and infinity. A tile of 6x6 outputs depends on 8x8 inputs. The
   transformed convolution is 64 small matrix products, with a fifth of the multiplications. Threads
   take strips of tiles whose transforms fit into the second-level cache until none are left.

   With `BFLOAT`, maps and weights are bfloat16 and all sums are float: products of bfloat16 would be
   twice as fast, but the transforms enlarge their rounding errors. */

#include "layer.h"
#include "values.h"

enum {
    OUT = 6, IN = 8,         /* sides of a tile of outputs, and of the inputs it depends on */
    POINTS = IN * IN,        /* values of a transformed tile */
    PANEL = 2 * LANES,       /* output channels of one register block */
    BLOCK = LANES == 8 ? 6 : 12, /* tiles of one register block: AVX2 has 16 registers, not 32 */
    PADDING = 16,            /* keeps the points of a tile in different cache sets */
    PIECE = BLOCK * LANES,   /* LANES channels of a block of tiles at one point */
    GROUP = (POINTS + 1) * PIECE, /* at all points; one more keeps groups in different cache sets */
    LINE = 64 / sizeof(value), /* values of a line of the caches */
    SECOND_LEVEL = 2,        /* of the caches, for prefetches; the first level is too small */
    MOST_TILES = 24,         /* tiles that are transformed together, at most */
    CACHED = 160 * 1024,     /* values of transformed inputs that stay in the cache */
};

int64_t panel_size(void) { return LANES; }

/* The caller has checked the CPU. */
int64_t ready(void) { return 1; }

INLINE int64_t width_of(int64_t panels) { return panels * LANES; }

/* Distance between the weights of two points, and between the products of two tiles. */
INLINE int64_t weights_step(int64_t channels, int64_t width) { return channels * width + PADDING; }
INLINE int64_t products_step(int64_t width) { return POINTS * width + PADDING; }

/* Number of blocks of tiles that are transformed together. */
INLINE int64_t blocks_of(int64_t channels) {
    int64_t fitting = CACHED / (channels * POINTS * BLOCK);
    return fitting < 1 ? 1 : smaller(fitting, MOST_TILES / BLOCK);
}

INLINE int64_t inputs_size(int64_t channels) {
    return blocks_of(channels) * (channels / LANES) * GROUP;
}

/* Size in floats: transformed weights, transformed inputs, and products. */
int64_t workspace_size(int64_t channels, int64_t panels) {
    int64_t width = width_of(panels);
    return POINTS * weights_step(channels, width) + MOST_TILES * products_step(width) +
           inputs_size(channels);
}

/* --- weights ---------------------------------------------------------------------------------- */

/* Compute G w for one column of a 3x3 kernel. */
INLINE void kernel_points(const vector in[3], vector out[IN]) {
    vector even = (in[0] + in[2]) * (-2 / 9.f), odd = in[1] * (-2 / 9.f);
    vector far = in[0] * (1 / 90.f) + in[2] * (4 / 90.f), far_odd = in[1] * (2 / 90.f);
    vector near = in[0] * (32 / 45.f) + in[2] * (8 / 45.f), near_odd = in[1] * (16 / 45.f);
    out[0] = in[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = far + far_odd;
    out[4] = far - far_odd;
    out[5] = near + near_odd;
    out[6] = near - near_odd;
    out[7] = in[2];
}

/* Transform the kernels (3, 3, channels, width) of one input channel to
   [point][panel][channel][output]. */
static void transform_kernels(const struct job *job, int64_t channel, float *weights) {
    int64_t width = width_of(job->panels), step = weights_step(job->channels, width);
    for (int64_t n = 0; n < width; n += LANES) {
        int64_t panel = n / PANEL * PANEL, outputs = smaller(width - panel, PANEL);
        float *to = weights + panel * job->channels + channel * outputs + n - panel;
        vector half[IN * 3], in[3], out[IN];
        for (int column = 0; column < 3; column++) {
            UNROLL for (int row = 0; row < 3; row++) {
                int64_t tap = (row * 3 + column) * job->channels;
                in[row] = load_values((const value *)job->weights + (tap + channel) * width + n);
            }
            kernel_points(in, out);
            UNROLL for (int row = 0; row < IN; row++) half[row * 3 + column] = out[row];
        }
        for (int row = 0; row < IN; row++) {
            kernel_points(half + row * 3, out);
            UNROLL for (int column = 0; column < IN; column++)
                store(to + (row * IN + column) * step, out[column]);
        }
    }
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* Compute B^T d for one row of an 8x8 tile. */
INLINE void input_points(const vector in[IN], vector out[IN]) {
    vector even = in[2] + in[6] - 4.25f * in[4], odd = in[1] + in[5] - 4.25f * in[3];
    vector far = in[6] + 0.25f * in[2] - 1.25f * in[4];
    vector far_odd = 2.f * in[5] + 0.5f * in[1] - 2.5f * in[3];
    vector near = in[6] + 4.f * in[2] - 5.f * in[4];
    vector near_odd = 0.5f * in[5] + 2.f * in[1] - 2.5f * in[3];
    out[0] = in[0] - in[6] + 5.25f * (in[4] - in[2]);
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = far + far_odd;
    out[4] = far - far_odd;
    out[5] = near + near_odd;
    out[6] = near - near_odd;
    out[7] = in[7] - in[1] + 5.25f * (in[3] - in[5]);
}

/* Where the 8x8 pixels of a tile are. */
struct window {
    int64_t rows[IN], columns[IN]; /* distances in values from the start of the map */
    int inside;                    /* whether all pixels are in the map */
    uint8_t row_inside[IN], column_inside[IN];
};

INLINE int find_side(int64_t start, int64_t size, int64_t doublings, int64_t distance,
                     int64_t places[IN], uint8_t inside[IN]) {
    int all = 1;
    for (int i = 0; i < IN; i++) {
        int64_t place = start + i;
        inside[i] = place >= 0 && place < size;
        places[i] = inside[i] ? (place >> doublings) * distance : 0;
        all &= inside[i];
    }
    return all;
}

static struct window find_window(const struct job *job, const struct map *map, int64_t top,
                                 int64_t left) {
    struct window window;
    int rows = find_side(top, job->height, job->doublings, map->row, window.rows,
                         window.row_inside);
    int columns = find_side(left, job->width, job->doublings, map->pixel, window.columns,
                            window.column_inside);
    window.inside = rows && columns;
    return window;
}

/* Transform LANES channels of a tile to 64 rows that are PIECE floats apart. Meanwhile, the pixels
   `ahead` values after them, which are those of the next tile, are fetched into the cache. */
INLINE void transform_tile(const value *from, const int64_t rows[IN], const int64_t columns[IN],
                           int64_t ahead, float *to) {
    vector half[POINTS], in[IN], out[IN];
    for (int j = 0; j < IN; j++) {
        const value *column = from + columns[j];
        UNROLL for (int i = 0; i < IN; i++) {
            in[i] = load_values(column + rows[i]);
            __builtin_prefetch(column + rows[i] + ahead, 0, SECOND_LEVEL);
        }
        input_points(in, out);
        UNROLL for (int i = 0; i < IN; i++) half[i * IN + j] = out[i];
    }
    for (int i = 0; i < IN; i++) {
        input_points(half + i * IN, out);
        UNROLL for (int j = 0; j < IN; j++) store(to + (i * IN + j) * PIECE, out[j]);
    }
}

/* Copy LANES channels of a tile at a border to `to`, with zeros outside the map. */
static void copy_tile(const value *from, const struct window *window, value *to) {
    memset(to, 0, POINTS * LANES * sizeof(value));
    for (int i = 0; i < IN; i++)
        for (int j = 0; j < IN; j++)
            if (window->row_inside[i] && window->column_inside[j])
                memcpy(to + (i * IN + j) * LANES, from + window->rows[i] + window->columns[j],
                       LANES * sizeof(value));
}

/* Transform all channels of a map for one tile. */
static void transform_map(const struct map *map, const struct window *window, float *to) {
    int64_t rows[IN], columns[IN]; /* of a copy */
    for (int i = 0; i < IN; i++) rows[i] = i * IN * LANES, columns[i] = i * LANES;
    for (int64_t c = 0; c < map->channels; c += LANES, to += GROUP) {
        const value *from = (const value *)map->data + c;
        value copy[POINTS * LANES];
        if (window->inside) {
            transform_tile(from, window->rows, window->columns, OUT * map->pixel, to);
        } else {
            copy_tile(from, window, copy);
            transform_tile(copy, rows, columns, 0, to);
        }
    }
}

/* Transform tiles to [block][group of channels][point][tile][channel].

   Tiles after the last one complete a register block; their values are not used. */
static void transform_inputs(const struct job *job, int64_t tile, int64_t count, float *to) {
    int64_t across = (job->columns + OUT - 1) / OUT, groups = job->channels / LANES;
    for (int64_t t = 0; t < count; t++) {
        int64_t top = (tile + t) / across * OUT - job->padding;
        int64_t left = (tile + t) % across * OUT - job->padding;
        float *place = to + t / BLOCK * groups * GROUP + t % BLOCK * LANES;
        for (int64_t i = 0; i < job->input_count; i++) {
            const struct map *map = &job->inputs[i];
            struct window window = find_window(job, map, top, left);
            transform_map(map, &window, place);
            place += map->channels / LANES * GROUP;
        }
    }
}

/* --- products --------------------------------------------------------------------------------- */

/* Multiply tiles (groups x BLOCK x LANES) at one point by weights (channels x vectors x LANES), and
   store the products (BLOCK x vectors x LANES, with rows `step` floats apart). */
INLINE void multiply(const float *tiles, const float *weights, int64_t groups, float *products,
                     int64_t step, const int vectors) {
    vector sums[BLOCK][2];
    UNROLL for (int t = 0; t < BLOCK; t++) sums[t][0] = sums[t][1] = (vector){0};
    for (int64_t g = 0; g < groups; g++, tiles += GROUP - LANES)
        for (int k = 0; k < LANES; k++, tiles++, weights += vectors * LANES) {
            vector left = load(weights), right = left;
            if (vectors == 2) right = load(weights + LANES);
            UNROLL for (int t = 0; t < BLOCK; t++) {
                sums[t][0] += tiles[t * LANES] * left;
                if (vectors == 2) sums[t][1] += tiles[t * LANES] * right;
            }
        }
    UNROLL for (int t = 0; t < BLOCK; t++) {
        store(products + t * step, sums[t][0]);
        if (vectors == 2) store(products + t * step + LANES, sums[t][1]);
    }
}

/* Compute the 64 products of a strip, each (tiles x channels) times (channels x width). */
static void multiply_points(const struct job *job, const float *tiles, int64_t count,
                            const float *weights, float *products) {
    int64_t width = width_of(job->panels), groups = job->channels / LANES;
    int64_t step = products_step(width);
    for (int point = 0; point < POINTS; point++) {
        const float *panel = weights + point * weights_step(job->channels, width);
        for (int64_t n = 0; n < width; n += PANEL, panel += job->channels * PANEL)
            for (int64_t t = 0; t < count; t += BLOCK) {
                const float *from = tiles + t / BLOCK * groups * GROUP + point * PIECE;
                float *to = products + t * step + point * width + n;
                if (n + PANEL <= width) multiply(from, panel, groups, to, step, 2);
                else multiply(from, panel, groups, to, step, 1);
            }
    }
}

/* --- outputs ---------------------------------------------------------------------------------- */

/* Compute A^T m for one row of 8 points. */
INLINE void output_values(const vector in[IN], vector out[OUT]) {
    vector even = in[1] + in[2], odd = in[1] - in[2], far = in[3] + in[4], far_odd = in[3] - in[4];
    vector near = in[5] + in[6], near_odd = in[5] - in[6];
    out[0] = in[0] + even + (far + near);
    out[1] = odd + 2.f * far_odd + 0.5f * near_odd;
    out[2] = even + 4.f * far + 0.25f * near;
    out[3] = odd + 8.f * far_odd + 0.125f * near_odd;
    out[4] = even + 16.f * far + 0.0625f * near;
    out[5] = in[7] + odd + 32.f * far_odd + 0.03125f * near_odd;
}

/* Apply bias, activation and residuals to one vector of channels from `n` on of a tile. */
INLINE void finish(const struct job *job, const vector half[OUT * IN], int64_t top, int64_t left,
                   int64_t rows, int64_t columns, int64_t n, int64_t count, const int stream) {
    vector bias = load(job->bias + n), slope = load(job->slope + n);
    for (int i = 0; i < rows; i++) {
        vector out[OUT];
        output_values(half + i * IN, out);
        UNROLL for (int j = 0; j < columns; j++) {
            vector sum = activate(out[j] + bias, slope);
            for (int64_t r = 0; r < job->residual_count; r++) {
                const struct map *map = &job->residuals[r];
                int64_t place = (top + i) * map->row + (left + j) * map->pixel + n;
                sum = job->scale * sum + load_some((const value *)map->data + place, count);
            }
            int64_t place = (top + i) * job->output_row + (left + j) * job->output_pixel + n;
            if (stream) stream_values((value *)job->output + place, sum);
            else store_some((value *)job->output + place, sum, count);
        }
    }
}

/* Fetch `channels` channels of rows x columns pixels into the cache. */
INLINE void prefetch_pixels(const value *from, int64_t row, int64_t pixel, int64_t rows,
                            int64_t columns, int64_t channels) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t n = 0; n < channels; n += LINE)
                __builtin_prefetch(from + i * row + j * pixel + n, 0, SECOND_LEVEL);
}

/* Fetch the residuals of a tile into the cache, and its outputs if they are stored there. */
INLINE void prefetch_outputs(const struct job *job, int64_t tile, int outputs) {
    int64_t across = (job->columns + OUT - 1) / OUT;
    int64_t top = tile / across * OUT, left = tile % across * OUT;
    int64_t rows = smaller(job->rows - top, OUT), columns = smaller(job->columns - left, OUT);
    const value *to = (const value *)job->output + top * job->output_row + left * job->output_pixel;
    if (outputs)
        prefetch_pixels(to, job->output_row, job->output_pixel, rows, columns, job->outputs);
    for (int64_t r = 0; r < job->residual_count; r++) {
        const struct map *map = &job->residuals[r];
        prefetch_pixels((const value *)map->data + top * map->row + left * map->pixel, map->row,
                        map->pixel, rows, columns, job->outputs);
    }
}

/* Whether each vector of outputs is a line of the cache. */
INLINE int fills_lines(const struct job *job) {
    uintptr_t places = (uintptr_t)job->output / sizeof(value) | job->output_row | job->output_pixel;
    return STREAMS && (uintptr_t)job->output % sizeof(value) == 0 && places % LINE == 0;
}

static void transform_outputs(const struct job *job, int64_t tile, int64_t count,
                              const float *products) {
    int64_t across = (job->columns + OUT - 1) / OUT, width = width_of(job->panels);
    int stream = fills_lines(job);
    for (int64_t t = 0; t < count; t++) {
        int64_t top = (tile + t) / across * OUT, left = (tile + t) % across * OUT;
        int64_t rows = smaller(job->rows - top, OUT), columns = smaller(job->columns - left, OUT);
        if (t + 1 < count) prefetch_outputs(job, tile + t + 1, !stream);
        for (int64_t n = 0; n < job->outputs; n += LANES) {
            const float *from = products + t * products_step(width) + n;
            int64_t outputs = job->outputs - n;
            vector half[OUT * IN], in[IN], out[OUT];
            for (int j = 0; j < IN; j++) {
                UNROLL for (int i = 0; i < IN; i++)
                    in[i] = load(from + (i * IN + j) * width);
                output_values(in, out);
                UNROLL for (int i = 0; i < OUT; i++) half[i * IN + j] = out[i];
            }
            int whole = rows == OUT && columns == OUT && outputs >= LANES;
            /* constant arguments let the compiler unroll */
            if (whole && stream) finish(job, half, top, left, OUT, OUT, n, LANES, 1);
            else if (whole) finish(job, half, top, left, OUT, OUT, n, LANES, 0);
            else finish(job, half, top, left, rows, columns, n, outputs, 0);
        }
    }
}

/* Take the next tiles for a thread, from `first` on, and return their number, 0 at the end: a strip,
   or the thread's share of the remaining tiles, so that all threads finish together. */
static int64_t take_tiles(struct job *job, int64_t tiles, int64_t *first) {
    int64_t count, strip = blocks_of(job->channels) * BLOCK;
    *first = atomic_load(&job->next_strip);
    do {
        int64_t left = tiles - *first, share = (left + job->threads - 1) / job->threads;
        count = smaller(smaller((share + BLOCK - 1) / BLOCK * BLOCK, strip), left);
    } while (count > 0 &&
             !atomic_compare_exchange_weak(&job->next_strip, first, *first + count));
    return count;
}

/* Each thread transforms all weights itself: fetching them from another core took longer (measured
   with two threads). */
static void work(struct job *job) {
    int64_t tiles = (job->rows + OUT - 1) / OUT * ((job->columns + OUT - 1) / OUT), tile, count;
    int64_t width = width_of(job->panels);
    float *weights = own_workspace(job);
    float *products = weights + POINTS * weights_step(job->channels, width);
    float *inputs = products + MOST_TILES * products_step(width);
    for (int64_t channel = 0; channel < job->channels; channel++)
        transform_kernels(job, channel, weights);
    while ((count = take_tiles(job, tiles, &tile)) > 0) {
        transform_inputs(job, tile, count, inputs);
        multiply_points(job, inputs, count, weights, products);
        transform_outputs(job, tile, count, products);
    }
    finish_streams();
}
