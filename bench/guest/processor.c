/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels of what a processor does with its registers and its first caches (kernels.h):
 * integers, branches, calls, recursion, a dot product, a sine.
 */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>

#define INTEGER_STEPS 2000000
#define BRANCH_WORDS  100000
#define BRANCHES      8 /* that a random word decides */
#define FUNCTIONS     16
#define CALLS	      1000000
#define DOUBLES	      4096 /* 64 KiB in two arrays */
#define DOT_ROUNDS    128
#define SINES	      100000
#define SINE_STEP     0.1
/* What ackermann(3, 7) takes, and comes to: 2^10 - 3; it goes about as deep. */
#define ACKERMANN_CALLS 693964
#define ACKERMANN	1021
/* What the others come to: computed in Python, by other means than here. */
#define INTEGER_RESULT	17101191315867592155U
#define BRANCHES_RESULT 20006363996
#define CALLS_RESULT	5162808871150430636
#define SINES_RESULT	19658090

/* Three chains of the common operations, none of which touches memory. */
static u64 integer(void *data)
{
	u64 x = 1, y = 2, z = 3;

	(void)data;
	for (unsigned i = 0; i < INTEGER_STEPS; i++) {
		x = x * 6364136223846793005 + 1442695040888963407;
		y = (y << 13 | y >> 51) ^ x;
		z += (y >> 7) - (x & i);
	}
	return x ^ y ^ z;
}

/*
 * Each bit of each word decides on a branch. The statement that says nothing keeps the
 * compiler from making arithmetic out of them, which would be no branch at all.
 */
static u64 branches(void *data)
{
	u64 random = RANDOM_SEED, sum = 0;

	(void)data;
	for (unsigned i = 0; i < BRANCH_WORDS; i++) {
		u64 word = next_random(&random);

		for (unsigned bit = 0; bit < BRANCHES; bit++, word >>= 7) {
			if (word & 1) {
				sum += i;
				__asm__ volatile("");
			} else {
				sum ^= bit;
			}
		}
	}
	return sum;
}

typedef u64 (*function)(u64 value);

#define DEFINE(number, expression)                                                                 \
	static __attribute__((noinline)) u64 function_##number(u64 value)                          \
	{                                                                                          \
		return expression;                                                                 \
	}

DEFINE(0, value + 1)
DEFINE(1, value ^ 0x55)
DEFINE(2, value * 3)
DEFINE(3, value - 7)
DEFINE(4, value << 1 | value >> 63)
DEFINE(5, value + (value >> 3))
DEFINE(6, ~value)
DEFINE(7, value ^ value >> 11)
DEFINE(8, value + 0x1234)
DEFINE(9, value * 5 + 1)
DEFINE(10, value ^ value << 5)
DEFINE(11, value - (value >> 2))
DEFINE(12, value << 7 | value >> 57)
DEFINE(13, value + 99)
DEFINE(14, value ^ 0xff00ff)
DEFINE(15, value * 9)

/* In a table that the compiler has to believe may have changed, in an order drawn by lot. */
struct calls {
	function functions[FUNCTIONS];
	u8 order[CALLS];
};

static void *prepare_calls(void)
{
	static const function functions[FUNCTIONS] = {
		function_0,  function_1,  function_2,  function_3, function_4,	function_5,
		function_6,  function_7,  function_8,  function_9, function_10, function_11,
		function_12, function_13, function_14, function_15};
	struct calls *calls = take(sizeof(*calls));
	u64 random = RANDOM_SEED;

	for (unsigned i = 0; i < FUNCTIONS; i++)
		calls->functions[i] = functions[i];
	for (unsigned i = 0; i < CALLS; i++)
		calls->order[i] = next_random(&random) % FUNCTIONS;
	return calls;
}

static u64 call(void *data)
{
	const struct calls *calls = data;
	u64 value = 1;

	for (unsigned i = 0; i < CALLS; i++)
		value = calls->functions[calls->order[i]](value);
	return value;
}

static void release_calls(void *data)
{
	give_back(data, sizeof(struct calls));
}

/*
 * Ackermann's function. The statements that say nothing make calls out of what the compiler
 * would turn into jumps, and each has its frame.
 */
static __attribute__((noinline)) u64 ackermann(u64 m, u64 n)
{
	u64 value;

	if (m == 0)
		return n + 1;
	if (n == 0)
		value = ackermann(m - 1, 1);
	else
		value = ackermann(m - 1, ackermann(m, n - 1));
	__asm__ volatile("" : "+r"(value));
	return value;
}

static u64 recursion(void *data)
{
	(void)data;
	return ackermann(3, 7);
}

struct vectors {
	double left[DOUBLES], right[DOUBLES];
};

/* Whole numbers, whose products and sums are exact: 1 * 1 + 2 * 1 + 3 * 1 and so on. */
static void *prepare_dot(void)
{
	struct vectors *vectors = take(sizeof(*vectors));

	for (unsigned i = 0; i < DOUBLES; i++) {
		vectors->left[i] = i + 1;
		vectors->right[i] = 1;
	}
	return vectors;
}

static u64 dot(void *data)
{
	const struct vectors *vectors = data;
	double sum = 0;

	for (unsigned round = 0; round < DOT_ROUNDS; round++) {
		for (unsigned i = 0; i < DOUBLES; i++)
			sum += vectors->left[i] * vectors->right[i];
		__asm__ volatile("" : : : "memory");
	}
	return sum;
}

static void release_dot(void *data)
{
	give_back(data, sizeof(struct vectors));
}

/* To the millionth: libm has more than one sine, for CPUs that can do more or less. */
static u64 sine(void *data)
{
	double sum = 0;

	(void)data;
	for (unsigned i = 0; i < SINES; i++)
		sum += sin(i * SINE_STEP);
	return llround(sum * 1e6);
}

const struct kernel processor_kernels[] = {
	{.name = "integer",
	 .unit = "steps",
	 .operations = INTEGER_STEPS,
	 .result = INTEGER_RESULT,
	 .chunk = integer},
	{.name = "branches",
	 .unit = "branches",
	 .operations = BRANCH_WORDS * BRANCHES,
	 .result = BRANCHES_RESULT,
	 .chunk = branches},
	{.name = "calls",
	 .unit = "calls",
	 .operations = CALLS,
	 .result = CALLS_RESULT,
	 .prepare = prepare_calls,
	 .chunk = call,
	 .release = release_calls},
	{.name = "recursion",
	 .unit = "calls",
	 .operations = ACKERMANN_CALLS,
	 .result = ACKERMANN,
	 .chunk = recursion},
	{.name = "dot",
	 .unit = "products",
	 .operations = (u64)DOUBLES * DOT_ROUNDS,
	 .result = (u64)DOUBLES * (DOUBLES + 1) / 2 * DOT_ROUNDS,
	 .prepare = prepare_dot,
	 .chunk = dot,
	 .release = release_dot},
	{.name = "sin",
	 .unit = "sines",
	 .operations = SINES,
	 .result = SINES_RESULT,
	 .chunk = sine},
};
const size_t processor_kernels_count = COUNT(processor_kernels);
