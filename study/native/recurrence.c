/* The recurrence of an LSTM and of an EA-LSTM over many days, and its gradient, for one thread.
 *
 * LANES hidden units are computed side by side, all their gates and ROWS windows at once, so that the
 * activations follow while the sums are in registers. A window's result does not depend on its
 * neighbours.
 *
 * Letters: T days, B windows (or basins), D daily inputs, H hidden size, P = H rounded up to a
 * multiple of BLOCK, N gates that see the daily inputs: i, f, g, o (N = 4), or f, g, o (N = 3) of
 * the EA-LSTM, whose input gate is given. Arrays are float32, rows without gaps.
 */
#include "vectors.h"

#define STEPS 64 /* windows' days whose outer products are added up at once, while they are in the cache */

#define BORDER 8.011758f /* at which the quotient below is first 1, with products rounded before a sum or not */

/* tanh of `count` vectors side by side, so that one does not wait for another, within 7 units of the
 * last place: x P(x^2) / Q(x^2), fitted to tanh(x)/x for the least relative error on [0, 8.2]. Beyond
 * the border it is 1, so that gates are shut and open to the end. */
INLINE void hyperbolic_tangents(vec *x, const int count) {
    vec p[ROWS], q[ROWS];
    for (int r = 0; r < count; r++) x[r] = smaller(all(BORDER), larger(all(-BORDER), x[r]));
    for (int r = 0; r < count; r++) {
        const vec square = x[r] * x[r];
        p[r] = square * 1.484050679e-8f + 2.163723731e-5f;
        q[r] = square * 8.370582913e-7f + 3.386437348e-4f;
        p[r] = p[r] * square + 3.556684009e-3f;
        q[r] = q[r] * square + 2.610828969e-2f;
        p[r] = p[r] * square + 1.343212098e-1f;
        q[r] = q[r] * square + 4.676544672e-1f;
        p[r] = p[r] * square + 1.0f;
        q[r] = q[r] * square + 1.0f;
    }
    for (int r = 0; r < count; r++) x[r] = x[r] * p[r] / q[r];
}

INLINE void sigmoids(vec *x, const int count) {
    for (int r = 0; r < count; r++) x[r] *= 0.5f;
    hyperbolic_tangents(x, count);
    for (int r = 0; r < count; r++) x[r] = x[r] * 0.5f + 0.5f;
}

/* (N*H, K) weights -> (block of LANES units, term, gate, unit), zeros beyond H. */
static void pack(int64_t N, int64_t H, int64_t K, int64_t terms, int64_t first, const float *w, float *out) {
    const int64_t P = padded(H);
    for (int64_t u = 0; u < P; u++)
        for (int64_t k = 0; k < K; k++)
            for (int64_t gate = 0; gate < N; gate++)
                out[((u / LANES * terms + first + k) * N + gate) * LANES + u % LANES] =
                    u < H ? w[(gate * H + u) * K + k] : 0.0f;
}

struct step {
    int64_t D, H, P;
    const float *x, *bias, *input_gate, *h_before, *c_before, *packed;
    float *h, *c, *gates;
};

/* sum[n][r] grows by `terms` products of weights, N vectors a term, and values, one a row and term. */
INLINE const float *add_products(vec sum[4][ROWS], const float *weights, int64_t terms, const float *values,
                                 int64_t by_row, const int N, const int rows) {
#pragma GCC unroll 2
    for (int64_t k = 0; k < terms; k++, weights += N * LANES)
        for (int n = 0; n < N; n++) {
            vec weight = load(weights + n * LANES);
            HELD(weight);
            for (int r = 0; r < rows; r++) sum[n][r] += weight * values[r * by_row + k];
        }
    return weights;
}

/* One day of `rows` windows from window b on, for the LANES units from unit u on. */
INLINE void forward_tile(const struct step *s, int64_t b, int64_t u, const int N, const int rows) {
    const int64_t D = s->D, H = s->H, P = s->P, at = b * P + u;
    vec sum[4][ROWS], given[ROWS], c[ROWS], tanh_c[ROWS];
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < N; n++) sum[n][r] = load(s->bias + ((b + r) * N + n) * P + u);
    const float *weights = add_products(sum, s->packed + u * (D + H) * N, D, s->x + b * D, D, N, rows);
    add_products(sum, weights, H, s->h_before + b * P, P, N, rows);
#pragma GCC unroll 4
    for (int n = 0; n < N; n++)
        if (n == N - 2) hyperbolic_tangents(sum[n], rows);
        else sigmoids(sum[n], rows);
    for (int r = 0; r < rows; r++) given[r] = N == 4 ? sum[0][r] : load(s->input_gate + at + r * P);
    const vec *f = sum[N - 3], *g = sum[N - 2], *o = sum[N - 1];
    for (int r = 0; r < rows; r++)
        c[r] = tanh_c[r] = f[r] * load(s->c_before + at + r * P) + given[r] * g[r];
    hyperbolic_tangents(tanh_c, rows);
    for (int r = 0; r < rows; r++) {
        store(s->c + at + r * P, c[r]);
        store(s->h + at + r * P, o[r] * tanh_c[r]);
        if (s->gates)
            for (int n = 0; n < N; n++) store(s->gates + ((b + r) * N + n) * P + u, sum[n][r]);
    }
}

INLINE void forward_day(const struct step *s, int64_t B, const int N) {
    for (int64_t u = 0; u < s->P; u += LANES) {
        int64_t b = 0;
        for (; b + ROWS <= B && b + ROWS + 1 != B; b += ROWS) forward_tile(s, b, u, N, ROWS);
        for (; b + 2 <= B; b += 2) forward_tile(s, b, u, N, 2);
        for (; b < B; b++) forward_tile(s, b, u, N, 1);
    }
}

/* All days.
 *
 * weight_x (N*H, D), weight_h (N*H, H); x (T, B, D); bias (B, N, P): all that a window adds to the
 * gates every day; input_gate (B, P) if N is 3. packed: room for P * N * (D + H).
 * h and c (T + 1, B, P), the state before the first day given; gates (T, B, N, P).
 * With gates NULL nothing is kept for a gradient, and c is (2, B, P): the state after the last day
 * is in c[T % 2].
 */
void forward(int64_t T, int64_t B, int64_t D, int64_t H, int64_t N, const float *weight_x, const float *weight_h,
             const float *x, const float *bias, const float *input_gate, float *packed, float *h, float *c,
             float *gates) {
    const int64_t P = padded(H), size = B * P;
    pack(N, H, D, D + H, 0, weight_x, packed);
    pack(N, H, H, D + H, D, weight_h, packed);
    for (int64_t t = 0; t < T; t++) {
        const int64_t before = gates ? t : t % 2, after = gates ? t + 1 : 1 - t % 2;
        const struct step s = {
            .D = D, .H = H, .P = P, .x = x + t * B * D, .bias = bias, .input_gate = input_gate,
            .h_before = h + t * size, .c_before = c + before * size, .packed = packed,
            .h = h + (t + 1) * size, .c = c + after * size, .gates = gates ? gates + t * N * size : 0,
        };
        if (N == 4) forward_day(&s, B, 4);
        else forward_day(&s, B, 3);
    }
}

/* Gradients at the gates of one day, LANES units of one window; over `gates` they are written. */
INLINE void gates_gradient(float *gates, float *dbias, float *dinput, float *dh, float *dc, const float *dout,
                           const float *c_before, const float *c, const float *input_gate, int64_t P, const int N) {
    const vec i = N == 4 ? load(gates) : load(input_gate);
    const vec f = load(gates + (N - 3) * P), g = load(gates + (N - 2) * P), o = load(gates + (N - 1) * P);
    vec tanh_c = load(c);
    hyperbolic_tangents(&tanh_c, 1);
    const vec dh_now = dout ? load(dh) + load(dout) : load(dh);
    const vec dc_now = load(dc) + dh_now * o * (1.0f - tanh_c * tanh_c);
    store(dc, dc_now * f);
    const vec at_gate[4] = {
        dc_now * g * i * (1.0f - i),
        dc_now * load(c_before) * f * (1.0f - f),
        dc_now * i * (1.0f - g * g),
        dh_now * tanh_c * o * (1.0f - o),
    };
    if (N == 3) store(dinput, load(dinput) + dc_now * g);
    for (int n = 0; n < N; n++) {
        const vec value = at_gate[4 - N + n];
        store(gates + n * P, value);
        store(dbias + n * P, load(dbias + n * P) + value);
    }
}

/* dweight (K, width) grows by the outer products of values (steps, K) and dgates (steps, width). BLOCK
 * columns of dgates are laid side by side first: lines a power of two apart evict one another. */
static void weights_gradient(int64_t steps, int64_t K, int64_t width, const float *values, const float *dgates,
                             float *dweight) {
    float strip[STEPS * BLOCK];
    for (int64_t from = 0; from < steps; from += STEPS) {
        const struct product outer = {
            .terms = steps - from < STEPS ? steps - from : STEPS,
            .by_row = 1, .by_term = K, .vectors_by = BLOCK, .out_by = width, .adds = 1,
        };
        for (int64_t u = 0; u < width; u += BLOCK) {
            for (int64_t k = 0; k < outer.terms; k++)
                memcpy(strip + k * BLOCK, dgates + (from + k) * width + u, sizeof(float) * BLOCK);
            product_rows(outer, K, values + from * K, strip, dweight + u);
        }
    }
}

INLINE void backward_days(int64_t T, int64_t first, int64_t B, int64_t D, int64_t P, const float *x,
                          const float *dout, const float *h, const float *c, const float *input_gate,
                          const float *packed, float *gates, float *dweight_x, float *dweight_h, float *dbias,
                          float *dinput, float *dh, float *dc, const int N) {
    const int64_t size = B * P, width = N * P;
    const struct product through = {.terms = width, .by_row = width, .by_term = 1, .vectors_by = BLOCK, .out_by = P};
    int64_t end = T; /* of the days whose outer products are still to be added */
    for (int64_t t = T - 1; t >= 0; t--) {
        float *today = gates + t * N * size;
        const float *scored = t < first ? 0 : dout + (t - first) * size;
        for (int64_t b = 0; b < B; b++)
            for (int64_t u = 0; u < P; u += LANES) {
                const int64_t at = b * P + u, wide = b * width + u;
                gates_gradient(today + wide, dbias + wide, dinput + at, dh + at, dc + at, scored ? scored + at : 0,
                               c + t * size + at, c + (t + 1) * size + at, input_gate + at, P, N);
            }
        for (int64_t u = 0; u < P; u += BLOCK) product_rows(through, B, today, packed + u * width, dh + u);
        if ((end - t) * B >= STEPS || t == 0) {
            weights_gradient((end - t) * B, D, width, x + t * B * D, today, dweight_x);
            weights_gradient((end - t) * B, P, width, h + t * size, today, dweight_h);
            end = t;
        }
    }
}

/* Gradients of a loss whose derivative by the hidden values of the days from `first` on is dout
 * (T - first, B, P). gates come from `forward` and leave as the gradients at the gates, before
 * their activations. dweight_x (D, N, P); dweight_h (P, N, P); dbias (B, N, P), the gates' sums over
 * the days; dinput (B, P), by the given input gate. dh, dc (B, P): room, and in the end the gradients
 * by the first state. packed: room for P * N * P.
 */
void backward(int64_t T, int64_t first, int64_t B, int64_t D, int64_t H, int64_t N, const float *weight_h,
              const float *x, const float *dout, const float *h, const float *c, const float *input_gate,
              float *packed, float *gates, float *dweight_x, float *dweight_h, float *dbias, float *dinput,
              float *dh, float *dc) {
    const int64_t P = padded(H);
    memset(packed, 0, sizeof(float) * N * P * P);
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < H; k++)
            for (int64_t u = 0; u < H; u++)
                packed[(u / BLOCK * N * P + n * P + k) * BLOCK + u % BLOCK] = weight_h[(n * H + k) * H + u];
    memset(dweight_x, 0, sizeof(float) * D * N * P);
    memset(dweight_h, 0, sizeof(float) * P * N * P);
    memset(dbias, 0, sizeof(float) * B * N * P);
    memset(dinput, 0, sizeof(float) * B * P);
    memset(dh, 0, sizeof(float) * B * P);
    memset(dc, 0, sizeof(float) * B * P);
    if (N == 4)
        backward_days(T, first, B, D, P, x, dout, h, c, input_gate, packed, gates, dweight_x, dweight_h, dbias,
                      dinput, dh, dc, 4);
    else
        backward_days(T, first, B, D, P, x, dout, h, c, input_gate, packed, gates, dweight_x, dweight_h, dbias,
                      dinput, dh, dc, 3);
}
