/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine that can be debugged: see fake_debug.h.
 */
#include "fake_debug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* assert() is not for this: it must hold in every build. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s: line %d: %s\n", __FILE__, __LINE__, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct fake_debug *fake_of(struct engine *engine)
{
	return container_of(engine, struct fake_debug, engine);
}

static bool all_stopped(const struct fake_debug *fake)
{
	for (unsigned i = 0; !fake->off && i < FAKE_DEBUG_VCPUS; i++)
		if (fake->actions[i] != DEBUG_STAY)
			return false;
	return true;
}

static void attach(struct engine *engine, struct debugger *debugger)
{
	MUST(!fake_of(engine)->debugger && debugger);
	fake_of(engine)->debugger = debugger;
}

static void pause_all(struct engine *engine)
{
	memset(fake_of(engine)->actions, 0, sizeof(fake_of(engine)->actions));
}

static void resume(struct engine *engine, const enum debug_action *actions)
{
	struct fake_debug *fake = fake_of(engine);

	MUST(all_stopped(fake));
	memcpy(fake->actions, actions, sizeof(fake->actions));
	/* Or nobody would ever hear of it again. */
	MUST(!all_stopped(fake));
	fake->resumes++;
}

static int get_state(struct engine *engine, unsigned vcpu, struct cpu_state *state)
{
	MUST(all_stopped(fake_of(engine)) && vcpu < FAKE_DEBUG_VCPUS);
	*state = fake_of(engine)->state[vcpu];
	return 0;
}

static int set_state(struct engine *engine, unsigned vcpu, const struct cpu_state *state)
{
	MUST(all_stopped(fake_of(engine)) && vcpu < FAKE_DEBUG_VCPUS);
	fake_of(engine)->state[vcpu] = *state;
	return 0;
}

static int get_xsave(struct engine *engine, unsigned vcpu, struct debug_xsave *xsave)
{
	MUST(all_stopped(fake_of(engine)) && vcpu < FAKE_DEBUG_VCPUS);
	*xsave = fake_of(engine)->xsave[vcpu];
	return 0;
}

static int set_xsave(struct engine *engine, unsigned vcpu, const struct debug_xsave *xsave)
{
	MUST(all_stopped(fake_of(engine)) && vcpu < FAKE_DEBUG_VCPUS);
	MUST(xsave->features == fake_of(engine)->xsave[vcpu].features);
	fake_of(engine)->xsave[vcpu] = *xsave;
	return 0;
}

static int translate(struct engine *engine, unsigned vcpu, u64 address, u64 *gpa)
{
	MUST(all_stopped(fake_of(engine)) && vcpu < FAKE_DEBUG_VCPUS);
	if (address - FAKE_DEBUG_BASE >= FAKE_DEBUG_RAM)
		return -EFAULT;
	address -= FAKE_DEBUG_BASE;
	*gpa = FAKE_DEBUG_RAM - PAGE_SIZE - align_down(address, PAGE_SIZE) + address % PAGE_SIZE;
	return 0;
}

static bool is_ram(u64 gpa, u64 length)
{
	MUST(length && gpa / PAGE_SIZE == (gpa + length - 1) / PAGE_SIZE);
	return gpa < FAKE_DEBUG_RAM;
}

static int read_ram(struct engine *engine, u64 gpa, void *to, u64 length)
{
	MUST(all_stopped(fake_of(engine)));
	if (!is_ram(gpa, length))
		return -EFAULT;
	memcpy(to, fake_of(engine)->ram + gpa, length);
	return 0;
}

static int write_ram(struct engine *engine, u64 gpa, const void *from, u64 length)
{
	MUST(all_stopped(fake_of(engine)));
	if (!is_ram(gpa, length))
		return -EFAULT;
	memcpy(fake_of(engine)->ram + gpa, from, length);
	return 0;
}

static struct debug_point *find_point(struct fake_debug *fake, const struct debug_point *point)
{
	for (unsigned i = 0; i < fake->point_count; i++) {
		struct debug_point *other = &fake->points[i];

		if (other->kind == point->kind && other->address == point->address &&
		    other->length == point->length)
			return other;
	}
	return NULL;
}

static int add_point(struct engine *engine, unsigned vcpu, const struct debug_point *point)
{
	struct fake_debug *fake = fake_of(engine);

	MUST(all_stopped(fake) && vcpu < FAKE_DEBUG_VCPUS && point->length);
	MUST(!find_point(fake, point));
	if (fake->point_count == FAKE_DEBUG_POINTS)
		return -ENOSPC;
	fake->points[fake->point_count++] = *point;
	return 0;
}

static void remove_point(struct engine *engine, const struct debug_point *point)
{
	struct fake_debug *fake = fake_of(engine);
	struct debug_point *found = find_point(fake, point);

	MUST(all_stopped(fake) && found);
	*found = fake->points[--fake->point_count];
}

static const struct debug_ops debug_ops = {
	.attach = attach,
	.pause = pause_all,
	.resume = resume,
	.get_state = get_state,
	.set_state = set_state,
	.get_xsave = get_xsave,
	.set_xsave = set_xsave,
	.translate = translate,
	.read = read_ram,
	.write = write_ram,
	.add_point = add_point,
	.remove_point = remove_point,
};

void fake_debug_init(struct fake_debug *fake, u64 features)
{
	memset(fake, 0, sizeof(*fake));
	fake->ops = (struct engine_ops){.name = "fake", .debug = &debug_ops};
	fake->engine.ops = &fake->ops;
	MUST(!machine_init(&fake->machine));
	for (unsigned i = 0; i < FAKE_DEBUG_VCPUS; i++) {
		fake->xsave[i].features = features;
		fake->actions[i] = DEBUG_RUN;
	}
}

void fake_debug_reset(struct fake_debug *fake)
{
	fake->off = true;
	fake->point_count = 0;
	for (unsigned i = 0; i < FAKE_DEBUG_VCPUS; i++)
		fake->actions[i] = DEBUG_RUN;
}

void fake_debug_destroy(struct fake_debug *fake)
{
	machine_destroy(&fake->machine);
}

void fake_debug_stop(struct fake_debug *fake, unsigned vcpu, enum debug_reason reason,
		     const struct debug_point *point)
{
	struct debug_stop stop = {.vcpu = vcpu, .reason = reason};

	MUST(fake->actions[vcpu] != DEBUG_STAY);
	fake->actions[vcpu] = DEBUG_STAY;
	if (point)
		stop.point = *point;
	fake->debugger->stopped(fake->debugger, &stop);
}
