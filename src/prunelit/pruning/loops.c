/* Loops over many scores that read memory once. loops.py calls them and says what they do. */

#include <stdint.h>

/* Changes whenever a function's arguments do. */
const int32_t loops_version = 2;

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(PORTABLE)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* Scores that are compared together, by vector instructions, before those of interest are picked out. */
#define BLOCK 32

/* Copies the values of a block for which `wanted` to `near`, and their places to `places`. */
#define PICK(values, wanted)                    \
    uint32_t bits = 0;                          \
    for (int i = 0; i < size; i++)              \
        bits |= (uint32_t)(wanted) << i;        \
    for (; bits; bits &= bits - 1) {            \
        const int i = __builtin_ctz(bits);      \
        near[found] = (values)[i];              \
        places[found++] = (int32_t)(start + i); \
    }

/* Compares `size` values; `counts` tells whether the one at `i` is a candidate. */
#define COMPARE(size, counts)                                    \
    for (int i = 0; i < (size); i++) {                           \
        marked[i] = (counts) & (some[i] >= low);                 \
        reached += (counts) & (some[i] >= low);                  \
        exceeded += (counts) & (some[i] > high);                 \
        strange += some[i] - some[i] != 0; /* NaN or infinite */ \
    }

#define MARK(name, type)                                                                                     \
    FOR_EACH_PROCESSOR int64_t name(const type *restrict values, const uint8_t *restrict candidates,         \
                                    uint8_t *restrict marks, int64_t length, double lowest, double highest,  \
                                    type *restrict near, int32_t *restrict places, int64_t *restrict picked) \
    {                                                                                                        \
        const type low = (type)lowest, high = (type)highest;                                                 \
        int64_t number = 0, found = 0;                                                                       \
        for (int64_t start = 0; start < length; start += BLOCK) {                                            \
            const int size = length - start < BLOCK ? (int)(length - start) : BLOCK;                         \
            const type *some = values + start;                                                               \
            const uint8_t *chosen = candidates ? candidates + start : 0;                                     \
            uint8_t *marked = marks + start;                                                                 \
            int reached = 0, exceeded = 0, strange = 0;                                                      \
            if (size < BLOCK)                                                                                \
                COMPARE(size, !chosen || chosen[i])                                                          \
            else if (chosen)                                                                                 \
                COMPARE(BLOCK, chosen[i])                                                                    \
            else                                                                                             \
                COMPARE(BLOCK, 1)                                                                            \
            if (strange)                                                                                     \
                return -1;                                                                                   \
            number += reached;                                                                               \
            if (reached == exceeded)                                                                         \
                continue;                                                                                    \
            PICK(some, marked[i] & (some[i] <= high))                                                        \
        }                                                                                                    \
        *picked = found;                                                                                     \
        return number;                                                                                       \
    }

MARK(mark_float, float)
MARK(mark_double, double)

/* Multiplies derivatives by values, and clears the values of the products that do not reach `low`. */
#define MULTIPLY(size)                            \
    for (int i = 0; i < (size); i++) {            \
        const double score = scores[i] * some[i]; \
        scores[i] = score;                        \
        some[i] = score >= low ? some[i] : 0;     \
        reached += score >= low;                  \
        exceeded += score >= high;                \
    }

FOR_EACH_PROCESSOR int64_t keep_reaching(double *restrict derivatives, double *restrict values, int64_t length,
                                         double low, double high, double *restrict near,
                                         int32_t *restrict places, int64_t *restrict picked)
{
    int64_t number = 0, found = 0;
    for (int64_t start = 0; start < length; start += BLOCK) {
        const int size = length - start < BLOCK ? (int)(length - start) : BLOCK;
        double *scores = derivatives + start, *some = values + start;
        int reached = 0, exceeded = 0;
        if (size < BLOCK)
            MULTIPLY(size)
        else
            MULTIPLY(BLOCK)
        number += reached;
        if (reached == exceeded)
            continue;
        PICK(scores, (scores[i] >= low) & (scores[i] < high))
    }
    *picked = found;
    return number;
}

#define SETTLE(name, type)                                                                                \
    int64_t name(const type *restrict near, const int32_t *restrict places, int64_t length, double limit, \
                 uint8_t *restrict marks)                                                                 \
    {                                                                                                     \
        const type threshold = (type)limit;                                                               \
        int64_t ties = 0;                                                                                 \
        for (int64_t i = 0; i < length; i++) {                                                            \
            ties += near[i] == threshold;                                                                 \
            marks[places[i]] &= near[i] >= threshold;                                                     \
        }                                                                                                 \
        return ties;                                                                                      \
    }

SETTLE(settle_float, float)
SETTLE(settle_double, double)

#define CLEAR(name, type)                                                                            \
    FOR_EACH_PROCESSOR void name(type *restrict bits, const uint8_t *restrict marks, int64_t length) \
    {                                                                                                \
        for (int64_t i = 0; i < length; i++)                                                         \
            bits[i] &= (type)-marks[i];                                                              \
    }

CLEAR(clear_1, int8_t)
CLEAR(clear_2, int16_t)
CLEAR(clear_4, int32_t)
CLEAR(clear_8, int64_t)
