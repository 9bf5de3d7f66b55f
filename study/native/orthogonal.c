/* Newton and Schulz' iteration towards the nearest orthogonal matrix, for one thread. */
#include "vectors.h"

int64_t padded(int64_t size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

/* out (rows, cols) = left (rows, terms) times right, whose element (k, j) is right[k * by_term + j * by_col].
 * strip: room for terms * BLOCK; BLOCK columns of `right` lie there side by side. */
static void multiply(int64_t rows, int64_t terms, int64_t cols, const float *left, const float *right,
                     int64_t by_term, int64_t by_col, float *strip, float *out) {
    const struct product p = {.terms = terms, .by_row = terms, .by_term = 1, .vectors_by = BLOCK, .out_by = cols};
    for (int64_t u = 0; u < cols; u += BLOCK) {
        for (int64_t k = 0; k < terms; k++)
            for (int64_t j = 0; j < BLOCK; j++) strip[k * BLOCK + j] = right[k * by_term + (u + j) * by_col];
        product_rows(p, rows, left, strip, out + u);
    }
}

/* Each of `number` matrices x (R, C) becomes a x + (b g + c g g) x with g = x x', `rounds` times; R and C
 * are multiples of BLOCK, R <= C. abc: a, b, c. room: for 2 * R * R + R * C + C * BLOCK. */
void orthogonalise(int64_t number, int64_t R, int64_t C, int64_t rounds, const float *abc, float *x, float *room) {
    const float a = abc[0], b = abc[1], c = abc[2];
    float *gram = room, *polynomial = gram + R * R, *grown = polynomial + R * R, *strip = grown + R * C;
    for (const float *end = x + number * R * C; x < end; x += R * C)
        for (int64_t round = 0; round < rounds; round++) {
            multiply(R, C, R, x, x, 1, C, strip, gram);
            multiply(R, R, R, gram, gram, R, 1, strip, polynomial);
            for (int64_t i = 0; i < R * R; i++) polynomial[i] = b * gram[i] + c * polynomial[i];
            multiply(R, R, C, polynomial, x, C, 1, strip, grown);
            for (int64_t i = 0; i < R * C; i++) x[i] = a * x[i] + grown[i];
        }
}
