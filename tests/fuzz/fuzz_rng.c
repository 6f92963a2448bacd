/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio entropy device under a mad driver (virtio_world.h). A buffer that
 * comes back is never empty; one of an honest driver's is full, and not of zeroes.
 */
#include "virtio_world.h"

#include "virtio/rng.h"

#include <string.h>

struct fuzzed {
	struct world world;
	struct rng rng;
};

static void request(struct world *world, struct input *input, unsigned queue,
		    struct request *request)
{
	(void)world;
	(void)queue;
	take_buffers(request, input, true, WORLD_BUFFERS);
}

static void completed(struct world *world, unsigned queue, const struct request *request,
		      u32 written)
{
	u64 room = 0;

	(void)world;
	(void)queue;
	for (unsigned i = 0; i < request->count; i++)
		room += request->buffers[i].len;
	MUST(written || !room);
}

static void must_work(struct world *world)
{
	static const u8 zeroes[64];
	const struct fake_buffer buffer = {DATA, sizeof(zeroes), true};

	MUST(world_ask(world, 0, &buffer, 1) == sizeof(zeroes));
	MUST(memcmp(world->memory->base + DATA, zeroes, sizeof(zeroes)) != 0);
}

static const struct fuzzed_ops ops = {
	.queues = 1,
	.lines = 2, /* the violation, and that the guest gave up */
	.request = request,
	.completed = completed,
	.must_work = must_work,
};

static struct fuzzed *build(void)
{
	struct fuzzed *fuzzed = calloc(1, sizeof(*fuzzed));
	struct problem why;

	MUST(fuzzed);
	world_init(&fuzzed->world, &ops);
	MUST(!rng_init(&fuzzed->rng, &fuzzed->world.pci, WORLD_SLOT, &fuzzed->world.machine,
		       fuzzed->world.memory, &why));
	fuzzed->world.virtio = &fuzzed->rng.virtio;
	return fuzzed;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzzed *fuzzed;

	if (!fuzzed)
		fuzzed = build();
	world_run(&fuzzed->world, data, size);
	return 0;
}
