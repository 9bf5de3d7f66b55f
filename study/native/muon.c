/* A step of Muon, for one thread: Newton and Schulz' iteration towards the nearest orthogonal matrix. */
#include <math.h>

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

/* x (R, C) becomes a x + (b g + c g g) x with g = x x', `rounds` times; R and C are multiples of BLOCK.
 * room: for 2 * R * R + R * C + C * BLOCK. */
static void orthogonalise(int64_t R, int64_t C, int64_t rounds, float a, float b, float c, float *x, float *room) {
    float *gram = room, *polynomial = gram + R * R, *grown = polynomial + R * R, *strip = grown + R * C;
    for (int64_t round = 0; round < rounds; round++) {
        multiply(R, C, R, x, x, 1, C, strip, gram);
        multiply(R, R, R, gram, gram, R, 1, strip, polynomial);
        for (int64_t i = 0; i < R * R; i++) polynomial[i] = b * gram[i] + c * polynomial[i];
        multiply(R, R, C, polynomial, x, C, 1, strip, grown);
        for (int64_t i = 0; i < R * C; i++) x[i] = a * x[i] + grown[i];
    }
}

/* x divided by its norm, to which `tiny` is added. */
static void normalise(int64_t length, float tiny, float *x) {
    vec squares = all(0.0f);
    for (int64_t i = 0; i < length; i += LANES) squares += load(x + i) * load(x + i);
    float norm = 0;
    for (int lane = 0; lane < LANES; lane++) norm += squares[lane];
    norm = sqrtf(norm) + tiny;
    for (int64_t i = 0; i < length; i++) x[i] /= norm;
}

/* `number` matrices, the gates of a weight: weight, grad and momentum (number, rows, cols).
 *
 * momentum goes a share `fresh` of the way to grad; the step's direction is ahead of it, on a share
 * 1 - fresh of the way from grad to momentum, and is made orthogonal, lying down: R <= C are rows
 * and cols rounded up to blocks, in order of length. weight loses `length` times that.
 * settings: fresh, length, tiny, a, b, c. room: for 2 * R * R + 2 * R * C + C * BLOCK.
 */
void muon_step(int64_t number, int64_t rows, int64_t cols, int64_t rounds, const float *settings, const float *grad,
               float *momentum, float *weight, float *room) {
    const float fresh = settings[0], length = settings[1];
    const int tall = rows > cols;
    const int64_t R = padded(tall ? cols : rows), C = padded(tall ? rows : cols);
    const int64_t by_row = tall ? 1 : C, by_col = tall ? C : 1;
    float *x = room;
    for (int64_t n = 0; n < number; n++, grad += rows * cols, momentum += rows * cols, weight += rows * cols) {
        memset(x, 0, sizeof(float) * R * C);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < cols; k++) {
                const int64_t at = r * cols + k;
                momentum[at] += fresh * (grad[at] - momentum[at]);
                x[r * by_row + k * by_col] = grad[at] + (1 - fresh) * (momentum[at] - grad[at]);
            }
        normalise(R * C, settings[2], x);
        orthogonalise(R, C, rounds, settings[3], settings[4], settings[5], x, room + R * C);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < cols; k++) weight[r * cols + k] -= length * x[r * by_row + k * by_col];
    }
}
