/* Description of a layer, and vectors, shared by the compiled convolutions.

   Uses the vector extensions of GCC and Clang. Nothing is allocated or checked here: `compiled.py`
   does both. */

#include "threads.h"

#include <stddef.h>
#include <string.h>

#ifndef LANES
#error "LANES is the number of floats in a vector register"
#endif

typedef float vector __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4), aligned(4)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { MOST_INPUTS = 5, MOST_RESIDUALS = 2 };

/* A map of float or bfloat16, depending on the kernel. Strides of rows and pixels are in values; the
   channels of a pixel are adjacent. */
struct map {
    const void *data;
    int64_t row, pixel, channels;
};

struct job {
    struct map inputs[MOST_INPUTS];
    struct map residuals[MOST_RESIDUALS];
    int64_t input_count, residual_count;
    int64_t height, width;    /* size of the upsampled inputs */
    int64_t doublings;        /* the inputs are upsampled by 2^doublings */
    int64_t padding;          /* zeros around the inputs */
    int64_t channels;         /* sum of the channels of all inputs */
    int64_t outputs, panels;  /* output channels, and the panels they take */
    const void *weights;      /* packed by `Library.pack_weights` */
    const float *bias, *slope; /* panels * PANEL values; the slope applies below zero */
    float scale;              /* factor of the result before a residual is added */
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
