/* Vectors of the processor at hand, and sums of products that keep its arithmetic busy.
 *
 * A vector holds LANES numbers. Every sum runs over its terms in the order of their index, whatever
 * the width of the vectors and the number of rows. Arrays are float32, rows without gaps.
 */
#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 6
#elif defined(__AVX2__)
#define LANES 8
#define ROWS 3
#else
#define LANES 4
#define ROWS 3
#endif
#define BLOCK (2 * LANES)

typedef float vec __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec all(float x) { return x - (vec){0}; }

/* The smaller and the larger of two; `b` if one of them is not a number. */
#if defined(__AVX512F__)
INLINE vec smaller(vec a, vec b) { return _mm512_min_ps(a, b); }
INLINE vec larger(vec a, vec b) { return _mm512_max_ps(a, b); }
#elif defined(__AVX2__)
INLINE vec smaller(vec a, vec b) { return _mm256_min_ps(a, b); }
INLINE vec larger(vec a, vec b) { return _mm256_max_ps(a, b); }
#elif defined(__SSE__)
INLINE vec smaller(vec a, vec b) { return _mm_min_ps(a, b); }
INLINE vec larger(vec a, vec b) { return _mm_max_ps(a, b); }
#else
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
INLINE vec smaller(vec a, vec b) { return choose(a < b, a, b); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }
#endif

/* Keeps v in a register. Compilers would rather load it anew for each product that it is part of, but
 * a processor loads fewer vectors at a time than it multiplies. */
#if defined(__AVX512F__)
#define HELD(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define HELD(v) __asm__("" : "+x"(v))
#else
#define HELD(v)
#endif

/* Rounded up to whole blocks. */
int64_t padded(int64_t size);

/* A sum of `terms` products for each of `rows` rows and BLOCK columns:
 *
 *     out[r * out_by + ...] (+)= sum over k of values[r * by_row + k * by_term] * vectors[k * vectors_by + ...]
 */
struct product {
    int64_t terms, by_row, by_term, vectors_by, out_by;
    int adds;
};

INLINE void product_tile(const struct product *p, const float *values, const float *vectors, float *out,
                         const int rows) {
    vec sum[2 * ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
            sum[r][half] = p->adds ? load(out + r * p->out_by + half * LANES) : all(0.0f);
#pragma GCC unroll 2
    for (int64_t k = 0; k < p->terms; k++, vectors += p->vectors_by, values += p->by_term) {
        vec first = load(vectors), second = load(vectors + LANES);
        HELD(first);
        HELD(second);
        for (int r = 0; r < rows; r++) {
            const float value = values[r * p->by_row];
            sum[r][0] += first * value;
            sum[r][1] += second * value;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) store(out + r * p->out_by + half * LANES, sum[r][half]);
}

/* All rows of BLOCK columns. Fewer than four rows at once leave the processor waiting for sums: eight
 * are four twice, and not six and two. */
INLINE void product_rows(struct product p, int64_t rows, const float *values, const float *vectors, float *out) {
    int64_t r = 0;
#define TILES(size) \
    for (; r + size <= rows && !(size == 6 && rows - r == 8); r += size) \
        product_tile(&p, values + r * p.by_row, vectors, out + r * p.out_by, size);
    TILES(2 * ROWS)
#if ROWS > 4
    TILES(8)
#endif
    TILES(4)
    TILES(2)
    TILES(1)
#undef TILES
}
