/* The recurrence of an LSTM and of an EA-LSTM over many days, and its gradient, for one thread.
 *
 * A processor's vectors hold LANES numbers; LANES hidden units are computed side by side, all their
 * gates and ROWS windows at once, so that the activations follow while the sums are in registers.
 * Every sum runs over its terms in the order of their index, whatever the width of the vectors and
 * the size of the batch: a window's result does not depend on its neighbours.
 *
 * Letters: T days, B windows (or basins), D daily inputs, H hidden size, P = H rounded up to a
 * multiple of BLOCK, N gates that see the daily inputs: i, f, g, o (N = 4), or f, g, o (N = 3) of
 * the EA-LSTM, whose input gate is given. Arrays are float32, rows without gaps.
 */
#include <stdint.h>
#include <string.h>

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
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* e^x within 2 units of the last place on [-87, 87], outside of which x is moved to the border:
 * x = n ln 2 + r, and a polynomial of e^r (coefficients of Cephes' expf, S. Moshier). */
INLINE vec exponential(vec x) {
    x = choose(x < all(-87.0f), all(-87.0f), x);
    x = choose(x > all(87.0f), all(87.0f), x);
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    vec n = x * 1.44269504088896341f + magic;
    const ivec exponent = (ivec)n << 23;
    n -= magic;
    const vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (vec)((ivec)p + exponent);
}

INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE vec hyperbolic_tangent(vec x) { return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f; }

int64_t padded(int64_t H) { return (H + BLOCK - 1) / BLOCK * BLOCK; }

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

/* One day of `rows` windows from window b on, for the LANES units from unit u on. */
INLINE void forward_tile(const struct step *s, int64_t b, int64_t u, const int N, const int rows) {
    const int64_t D = s->D, H = s->H, P = s->P;
    const float *w = s->packed + u * (D + H) * N;
    vec sum[ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < N; n++) sum[r][n] = load(s->bias + ((b + r) * N + n) * P + u);
    for (int64_t k = 0; k < D; k++, w += N * LANES)
        for (int n = 0; n < N; n++) {
            const vec weight = load(w + n * LANES);
            for (int r = 0; r < rows; r++) sum[r][n] += weight * s->x[(b + r) * D + k];
        }
    for (int64_t k = 0; k < H; k++, w += N * LANES)
        for (int n = 0; n < N; n++) {
            const vec weight = load(w + n * LANES);
            for (int r = 0; r < rows; r++) sum[r][n] += weight * s->h_before[(b + r) * P + k];
        }
    for (int r = 0; r < rows; r++) {
        const int64_t at = (b + r) * P + u;
        const vec i = N == 4 ? sigmoid(sum[r][0]) : load(s->input_gate + at);
        const vec f = sigmoid(sum[r][N - 3]);
        const vec g = hyperbolic_tangent(sum[r][N - 2]);
        const vec o = sigmoid(sum[r][N - 1]);
        const vec c = f * load(s->c_before + at) + i * g;
        store(s->c + at, c);
        store(s->h + at, o * hyperbolic_tangent(c));
        if (s->gates) {
            float *gates = s->gates + (b + r) * N * P + u;
            if (N == 4) store(gates, i);
            store(gates + (N - 3) * P, f);
            store(gates + (N - 2) * P, g);
            store(gates + (N - 1) * P, o);
        }
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

/* dh (rows, P) = dgates (rows, N*P) times the packed weights, BLOCK units from unit u on. */
INLINE void gradient_tile(const float *packed, const float *dgates, float *dh, int64_t NP, int64_t P, int64_t u,
                          const int rows) {
    const float *w = packed + u * NP;
    vec sum[2 * ROWS][2];
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = all(0.0f);
    for (int64_t k = 0; k < NP; k++, w += BLOCK) {
        const vec first = load(w), second = load(w + LANES);
        for (int r = 0; r < rows; r++) {
            sum[r][0] += first * dgates[r * NP + k];
            sum[r][1] += second * dgates[r * NP + k];
        }
    }
    for (int r = 0; r < rows; r++) {
        store(dh + r * P + u, sum[r][0]);
        store(dh + r * P + u + LANES, sum[r][1]);
    }
}

/* Gradients at the gates of one day, LANES units of one window; over `gates` they are written. */
INLINE void gates_gradient(float *gates, float *dbias, float *dinput, float *dh, float *dc, const float *dout,
                           const float *c_before, const float *c, const float *input_gate, int64_t P, const int N) {
    const vec i = N == 4 ? load(gates) : load(input_gate);
    const vec f = load(gates + (N - 3) * P), g = load(gates + (N - 2) * P), o = load(gates + (N - 1) * P);
    const vec tanh_c = hyperbolic_tangent(load(c));
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

/* dweight_x (D, width) grows by the outer products of one day's x (B, D) and dgates (B, width). */
INLINE void inputs_gradient(int64_t B, int64_t D, int64_t width, const float *x, const float *dgates,
                            float *dweight_x) {
    for (int64_t k = 0; k < D; k++)
        for (int64_t u = 0; u < width; u += BLOCK) {
            float *out = dweight_x + k * width + u;
            vec first = load(out), second = load(out + LANES);
            for (int64_t b = 0; b < B; b++) {
                first += load(dgates + b * width + u) * x[b * D + k];
                second += load(dgates + b * width + u + LANES) * x[b * D + k];
            }
            store(out, first);
            store(out + LANES, second);
        }
}

INLINE void backward_days(int64_t T, int64_t first, int64_t B, int64_t D, int64_t P, const float *x,
                          const float *dout, const float *c, const float *input_gate, const float *packed,
                          float *gates, float *dweight_x, float *dbias, float *dinput, float *dh, float *dc,
                          const int N) {
    const int64_t size = B * P;
    for (int64_t t = T - 1; t >= 0; t--) {
        float *today = gates + t * N * size;
        const float *scored = t < first ? 0 : dout + (t - first) * size;
        for (int64_t b = 0; b < B; b++)
            for (int64_t u = 0; u < P; u += LANES) {
                const int64_t at = b * P + u, wide = b * N * P + u;
                gates_gradient(today + wide, dbias + wide, dinput + at, dh + at, dc + at, scored ? scored + at : 0,
                               c + t * size + at, c + (t + 1) * size + at, input_gate + at, P, N);
            }
        inputs_gradient(B, D, N * P, x + t * B * D, today, dweight_x);
        for (int64_t u = 0; u < P; u += BLOCK) {
            int64_t b = 0;
            for (; b + 2 * ROWS <= B; b += 2 * ROWS)
                gradient_tile(packed, today + b * N * P, dh + b * P, N * P, P, u, 2 * ROWS);
            for (; b + 2 <= B; b += 2) gradient_tile(packed, today + b * N * P, dh + b * P, N * P, P, u, 2);
            for (; b < B; b++) gradient_tile(packed, today + b * N * P, dh + b * P, N * P, P, u, 1);
        }
    }
}

/* Gradients of a loss whose derivative by the hidden values of the days from `first` on is dout
 * (T - first, B, P). gates come from `forward` and leave as the gradients at the gates, before
 * their activations. dweight_x (D, N, P); dbias (B, N, P), the gates' sums over the days; dinput
 * (B, P), by the given input gate. dh, dc (B, P): room, and in the end the gradients by the first
 * state. packed: room for P * N * P. The gradient by weight_h is left to a matrix product.
 */
void backward(int64_t T, int64_t first, int64_t B, int64_t D, int64_t H, int64_t N, const float *weight_h,
              const float *x, const float *dout, const float *c, const float *input_gate, float *packed,
              float *gates, float *dweight_x, float *dbias, float *dinput, float *dh, float *dc) {
    const int64_t P = padded(H);
    memset(packed, 0, sizeof(float) * N * P * P);
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < H; k++)
            for (int64_t u = 0; u < H; u++)
                packed[(u / BLOCK * N * P + n * P + k) * BLOCK + u % BLOCK] = weight_h[(n * H + k) * H + u];
    memset(dweight_x, 0, sizeof(float) * D * N * P);
    memset(dbias, 0, sizeof(float) * B * N * P);
    memset(dinput, 0, sizeof(float) * B * P);
    memset(dh, 0, sizeof(float) * B * P);
    memset(dc, 0, sizeof(float) * B * P);
    if (N == 4)
        backward_days(T, first, B, D, P, x, dout, c, input_gate, packed, gates, dweight_x, dbias, dinput, dh, dc, 4);
    else
        backward_days(T, first, B, D, P, x, dout, c, input_gate, packed, gates, dweight_x, dbias, dinput, dh, dc, 3);
}
