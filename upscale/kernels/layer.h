/* What the compiled convolutions share: the description of a layer, and vectors.

   Written with the vectors of GCC and Clang. Nothing is allocated here, and nothing is checked:
   `compiled.py` does both. */

#include "threads.h"

#include <stddef.h>

#ifndef LANES
#error "LANES is the number of floats in a vector register"
#endif

typedef float vector __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4), aligned(4)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { MOST_INPUTS = 5, MOST_RESIDUALS = 2 };

/* Of float or bfloat16, as the kernel takes them. Distances between rows and pixels in values; the
   channels of a pixel lie side by side. */
struct map {
    const void *data;
    int64_t row, pixel, channels;
};

struct job {
    struct map inputs[MOST_INPUTS];
    struct map residuals[MOST_RESIDUALS];
    int64_t input_count, residual_count;
    int64_t height, width;    /* of the inputs, upscaled */
    int64_t doublings;        /* an input pixel stands for 2^doublings pixels squared */
    int64_t padding;          /* zeros around the inputs */
    int64_t channels;         /* of all inputs together */
    int64_t outputs, panels;  /* output channels, and panels that hold them */
    const void *weights;      /* laid out by `Library.laid_out` */
    const float *bias, *slope; /* (panels * PANEL); the slope is applied below zero */
    float scale;              /* of what is added to a residual */
    void *output;
    int64_t output_row, output_pixel, rows, columns;
    float *workspace;         /* workspace_size floats for each thread */
    int64_t workspace_size, threads;
    _Atomic int64_t next_worker, next_strip;
};

INLINE vector load(const float *from) { return *(const vector *)from; }
INLINE void store(float *to, vector value) { *(vector *)to = value; }
INLINE int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }

INLINE vector activate(vector value, vector slope) {
    vector above = (vector)((mask)value & (value > 0.f));
    return above + slope * (value - above);
}

int64_t job_size(void) { return sizeof(struct job); }

INLINE float *own_workspace(struct job *job) {
    return job->workspace + atomic_fetch_add(&job->next_worker, 1) * job->workspace_size;
}
