/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine, as the rest of lguest sees it: engine.h's operations, and what
 * belongs to the whole machine and not to one vCPU. That is little: where RAM is, the
 * clock, the trace.
 *
 * A vCPU is vcpu.c's, and what it does while it runs is run.c's. Here they are made,
 * told to stop, and thrown away: at a reboot all of them, with everything that they
 * translated, because a machine that was just switched on remembers nothing. What is
 * kept is the room for translated code, because nobody who is locked in can have new.
 *
 * Tour 6.20
 */
#include "engine/soft/soft.h"

#include "board/board.h"
#include "engine/soft/fpu.h"
#include "engine/soft/internal.h"
#include "engine/soft/tuning.h"
#include "host/log.h"
#include "host/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct soft *soft_of(struct engine *engine)
{
	return container_of(engine, struct soft, engine);
}

void *pages_new(u64 bytes)
{
	void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

void pages_free(void *pages, u64 bytes)
{
	if (pages)
		munmap(pages, bytes);
}

static u64 page_words_size(const struct ram *ram)
{
	return ram->size / PAGE_SIZE * sizeof(ram->pages[0]);
}

/* All of the machine, as opposed to the engine. No vCPU runs, and no device. */
static void destroy_machine(struct soft *soft)
{
	struct board *board = soft->engine.board;

	/* Counters go with the vCPU that counted. */
	if (soft->options.soft_stats)
		stats_print(soft);
	if (board && board->memory) {
		board->memory->written = NULL;
		board->memory->written_opaque = NULL;
	}
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		cache_spare(soft->vcpus[i]);
		vcpu_free(soft->vcpus[i]);
		soft->vcpus[i] = NULL;
	}
	soft->vcpus_added = 0;
	soft->attached.count = 0;
	for (unsigned i = 0; i < soft->ram_count; i++)
		pages_free(soft->ram[i].pages, page_words_size(&soft->ram[i]));
	soft->ram_count = 0;
}

static void free_cells(struct soft *soft)
{
	for (unsigned i = 0; soft->cells && i < soft->vcpu_count; i++)
		cell_free(soft->cells[i]);
	free(soft->cells);
	soft->cells = NULL;
}

/* A process each: more vCPUs than processors gain nothing by it. */
#define CELLS_MAX 32

/* Without them we are slower, and that is all. */
static void make_cells(struct soft *soft)
{
	const struct xsave_layout *layout = &soft->cpuid.xsave;
	struct memory *memory = soft->engine.board->memory;
	u32 vectors = cpuid_image_size(layout, layout->components & ~(u64)COMPONENT_PKRU);
	struct problem why;
	int err;

	if (soft->options.soft_without & WITHOUT_BARE || !soft->options.may_share)
		return;
	soft->cells = calloc(soft->vcpu_count, sizeof(*soft->cells));
	if (!soft->cells)
		return;
	err = memory_share(memory, &why);
	for (unsigned i = 0; !err && i < MIN(soft->vcpu_count, CELLS_MAX); i++) {
		soft->cells[i] = cell_new(memory->fd, vectors, &why);
		err = soft->cells[i] ? 0 : -ENOMEM;
	}
	if (!err)
		return;
	log_verbose("user code is translated, all of it: %s", why.text);
	free_cells(soft);
}

static void soft_close(struct engine *engine)
{
	struct soft *soft = soft_of(engine);

	destroy_machine(soft);
	free_cells(soft);
	cache_free_spares(soft);
	trace_close(soft);
	perf_map_close(soft);
	pthread_cond_destroy(&soft->attached.changed);
	pthread_mutex_destroy(&soft->attached.lock);
	free(soft);
}

/* What a machine wants, and a mere question does not. */
static int start(struct soft *soft, struct problem *why)
{
	int err;

	clock_measure(soft);
	make_cells(soft);
	err = trace_open(soft, why);
	return err ? err : perf_map_open(soft, why);
}

static struct engine *soft_open(struct board *board, const struct engine_options *options,
				struct problem *why)
{
	struct soft *soft;

	soft = calloc(1, sizeof(*soft) + options->vcpus * sizeof(soft->vcpus[0]));
	if (!soft) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	soft->engine = (struct engine){.ops = &soft_engine, .board = board};
	soft->options = *options;
	soft->vcpu_count = options->vcpus;
	pthread_mutex_init(&soft->attached.lock, NULL);
	pthread_cond_init(&soft->attached.changed, NULL);
#ifdef SOFT_CHECKED
	soft->checked = true;
#endif
	if (cpuid_check_host(soft, why) || (board && start(soft, why))) {
		soft_close(&soft->engine);
		return NULL;
	}
	return &soft->engine;
}

/* It opened, so the processor has what we need: there is nothing else that could be missing. */
static bool soft_probe(struct engine *engine, struct problem *why)
{
	(void)engine;
	problem(why, 0, "translates x86 to x86, which takes nothing but this processor");
	return true;
}

static int soft_reset(struct engine *engine, struct problem *why)
{
	struct soft *soft = soft_of(engine);

	(void)why;
	destroy_machine(soft);
	/* The guest's clock counts from when it was switched on. */
	clock_measure(soft);
	return 0;
}

static int soft_map(struct engine *engine, u64 gpa, u64 size, void *host, struct problem *why)
{
	struct soft *soft = soft_of(engine);
	struct memory *memory = engine->board->memory;
	struct ram ram = {.gpa = gpa, .size = size, .host = host};

	if (soft->ram_count == ARRAY_SIZE(soft->ram))
		return problem(why, ENOSPC,
			       "the soft engine takes memory in %zu pieces, and not one more",
			       ARRAY_SIZE(soft->ram));
	if (gpa + size > 1ull << cpuid_address_bits())
		return problem(why, E2BIG,
			       "the guest's memory would end at %llu GiB: its processor can "
			       "address %llu GiB",
			       (unsigned long long)(gpa + size) >> 30,
			       (1ull << cpuid_address_bits()) >> 30);
	ram.pages = pages_new(page_words_size(&ram));
	if (!ram.pages)
		return problem(why, errno, "no room to note who uses which of %llu MiB: %s",
			       (unsigned long long)size >> 20, strerror(errno));
	soft->ram[soft->ram_count++] = ram;
	memory->written = cache_device_wrote;
	memory->written_opaque = soft;
	return 0;
}

static int soft_add_vcpu(struct engine *engine, const struct cpu_state *initial,
			 struct problem *why)
{
	struct soft *soft = soft_of(engine);
	unsigned index = soft->vcpus_added;
	struct vcpu *vcpu = vcpu_new(soft, index, initial, why);

	if (!vcpu)
		return -ENOMEM;
	soft->vcpus[index] = vcpu;
	soft->vcpus_added++;
	return 0;
}

static void soft_run(struct engine *engine, unsigned vcpu)
{
	soft_vcpu_run(soft_of(engine)->vcpus[vcpu]);
}

static void soft_stop(struct engine *engine)
{
	struct soft *soft = soft_of(engine);

	for (unsigned i = 0; i < soft->vcpus_added; i++)
		vcpu_kick(soft->vcpus[i], POLL_STOP);
	debugger_end(soft);
}

static void soft_msi(struct engine *engine, u64 address, u32 data)
{
	lapic_message(soft_of(engine), address, data);
}

/* Each write comes through the bus: we are in this process anyway, no exit is saved. */
static struct notifier *soft_on_write(struct engine *engine, u64 gpa, unsigned len, int eventfd)
{
	(void)engine, (void)gpa, (void)len, (void)eventfd;
	return NULL;
}

static void soft_remove_notifier(struct engine *engine, struct notifier *notifier)
{
	(void)engine, (void)notifier; /* on_write() never gave one */
}

const struct engine_ops soft_engine = {
	.name = "soft",
	.open = soft_open,
	.close = soft_close,
	.probe = soft_probe,
	.reset = soft_reset,
	.map = soft_map,
	.add_vcpu = soft_add_vcpu,
	.run = soft_run,
	.stop = soft_stop,
	.msi = soft_msi,
	/* The level-triggered bit travels in each message, and lapic.c notes it. */
	.ioapic_route = NULL,
	.on_write = soft_on_write,
	.remove_notifier = soft_remove_notifier,
	.debug = &soft_debug,
};
