/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernels that go to memory (kernels.h): a sieve, loads that wait for each other, a sort, a
 * copy.
 */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#define SIEVE_SIZE   (1U << 20)
#define SIEVE_WRITES 2228881 /* that strike something out */
#define PRIMES	     82025   /* below SIEVE_SIZE */
#define CHASE_SIZE   (16U << 20)
#define NODES	     (CHASE_SIZE / sizeof(struct node))
#define ELEMENTS     (1U << 16)
#define COPY_SIZE    (32UL << 20)
#define SAMPLE	     4096 /* bytes of it, from one that is looked at to the next */

/* Eratosthenes': writes with all strides there are. */
static void *prepare_sieve(void)
{
	return take(SIEVE_SIZE);
}

static u64 sieve(void *data)
{
	u8 *composite = data;
	u64 primes = 0;

	memset(composite, 0, SIEVE_SIZE);
	for (u32 i = 2; i < SIEVE_SIZE; i++) {
		if (composite[i])
			continue;
		primes++;
		for (u64 multiple = (u64)i * i; multiple < SIEVE_SIZE; multiple += i)
			composite[multiple] = 1;
	}
	return primes;
}

static void release_sieve(void *data)
{
	give_back(data, SIEVE_SIZE);
}

/* As large as a cache line, so that each load brings a new one. */
struct node {
	struct node *next;
	u64 number;
	u8 rest[48];
};

/* One cycle through all nodes, in an order drawn by lot: Sattolo's shuffle makes one. */
static void *prepare_chase(void)
{
	struct node *nodes = take(CHASE_SIZE);
	u64 random = RANDOM_SEED;

	for (u32 i = 0; i < NODES; i++) {
		nodes[i].next = &nodes[i];
		nodes[i].number = i;
	}
	for (u32 i = NODES - 1; i > 0; i--) {
		struct node *other = &nodes[next_random(&random) % i], *next = nodes[i].next;

		nodes[i].next = other->next;
		other->next = next;
	}
	return nodes;
}

/* All around, back to where it began. */
static u64 chase(void *data)
{
	const struct node *node = data;

	for (u32 i = 0; i < NODES; i++)
		node = node->next;
	return node->number;
}

static void release_chase(void *data)
{
	give_back(data, CHASE_SIZE);
}

struct sorting {
	u32 given[ELEMENTS], sorted[ELEMENTS];
};

static void *prepare_sort(void)
{
	struct sorting *sorting = take(sizeof(*sorting));
	u64 random = RANDOM_SEED;

	for (u32 i = 0; i < ELEMENTS; i++)
		sorting->given[i] = next_random(&random) >> 32;
	return sorting;
}

static int compare(const void *a, const void *b)
{
	u32 left = *(const u32 *)a, right = *(const u32 *)b;

	return (left > right) - (left < right);
}

/* The number of those that are where they should be. */
static u64 sort(void *data)
{
	struct sorting *sorting = data;
	u64 in_order = 1;

	memcpy(sorting->sorted, sorting->given, sizeof(sorting->sorted));
	qsort(sorting->sorted, ELEMENTS, sizeof(u32), compare);
	for (u32 i = 1; i < ELEMENTS; i++)
		in_order += sorting->sorted[i - 1] <= sorting->sorted[i];
	return in_order;
}

static void release_sort(void *data)
{
	give_back(data, sizeof(struct sorting));
}

struct copying {
	u8 from[COPY_SIZE], to[COPY_SIZE];
};

static void *prepare_copy(void)
{
	return take(sizeof(struct copying));
}

/* The number of samples that have arrived, which had been damaged before. */
static u64 copy(void *data)
{
	struct copying *copying = data;
	u64 arrived = 0;

	for (size_t i = 0; i < COPY_SIZE; i += SAMPLE)
		copying->to[i] = 0;
	consume(copying);
	memcpy(copying->to, copying->from, COPY_SIZE);
	consume(copying);
	for (size_t i = 0; i < COPY_SIZE; i += SAMPLE)
		arrived += copying->to[i];
	return arrived;
}

static void release_copy(void *data)
{
	give_back(data, sizeof(struct copying));
}

const struct kernel memory_kernels[] = {
	{.name = "sieve",
	 .unit = "writes",
	 .operations = SIEVE_WRITES,
	 .result = PRIMES,
	 .prepare = prepare_sieve,
	 .chunk = sieve,
	 .release = release_sieve},
	{.name = "chase",
	 .unit = "loads",
	 .operations = NODES,
	 .result = 0,
	 .prepare = prepare_chase,
	 .chunk = chase,
	 .release = release_chase},
	{.name = "qsort",
	 .unit = "elements",
	 .operations = ELEMENTS,
	 .result = ELEMENTS,
	 .prepare = prepare_sort,
	 .chunk = sort,
	 .release = release_sort},
	{.name = "memcpy",
	 .unit = "bytes",
	 .operations = COPY_SIZE,
	 .result = COPY_SIZE / SAMPLE,
	 .prepare = prepare_copy,
	 .chunk = copy,
	 .release = release_copy},
};
const size_t memory_kernels_count = COUNT(memory_kernels);
