/* Values of feature maps and weights: float, or with `BFLOAT` bfloat16, the upper half of a float. */

#ifdef BFLOAT

typedef uint16_t value;
typedef uint16_t halves __attribute__((vector_size(LANES * 2), aligned(2)));
typedef uint32_t bits __attribute__((vector_size(LANES * 4)));

INLINE vector load_values(const value *from) {
    return (vector)(__builtin_convertvector(*(const halves *)from, bits) << 16);
}

/* Round to the nearest bfloat16, in a tie to an even one. A NaN remains one. */
INLINE void store_values(value *to, vector numbers) {
    bits exact = (bits)numbers, nan = (bits)(numbers != numbers);
    bits rounded = exact + 0x7fff + (exact >> 16 & 1);
    bits chosen = (nan & (exact | 1 << 22)) | (~nan & rounded);
    *(halves *)to = __builtin_convertvector(chosen >> 16, halves);
}

#else

typedef float value;

INLINE vector load_values(const value *from) { return load(from); }
INLINE void store_values(value *to, vector numbers) { store(to, numbers); }

#endif

/* Load `count` values, or LANES if there are more; the others are zero. */
INLINE vector load_some(const value *from, int64_t count) {
    if (count >= LANES) return load_values(from);
    value all[LANES] = {0};
    for (int i = 0; i < count; i++) all[i] = from[i];
    return load_values(all);
}

INLINE void store_some(value *to, vector numbers, int64_t count) {
    if (count >= LANES) {
        store_values(to, numbers);
        return;
    }
    value all[LANES];
    store_values(all, numbers);
    for (int i = 0; i < count; i++) to[i] = all[i];
}

/* Whole lines are stored past the caches where a vector is one: the next layer reads them after the
   caches have seen much else, and a store to a cache would first read the line. */
#if !defined(BFLOAT) && defined(__AVX512F__)

#include <immintrin.h>

enum { STREAMS = 1 };

INLINE void stream_values(value *to, vector numbers) { _mm512_stream_ps(to, (__m512)numbers); }
INLINE void finish_streams(void) { _mm_sfence(); }

#else

enum { STREAMS = 0 };

INLINE void stream_values(value *to, vector numbers) { store_values(to, numbers); }
INLINE void finish_streams(void) {}

#endif
