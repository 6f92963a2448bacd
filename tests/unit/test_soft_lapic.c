/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine's local APIC, without an engine: the clock stands still until the
 * test moves it, and the host's timer only takes notes.
 */
#include "board/board.h"
#include "engine/soft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TSC_PER_NS 2u
#define ENABLED	   0x1ffu /* SVR */
#define MASKED	   0x10000u
#define PERIODIC   0x20000u
#define DEADLINE   0x40000u
#define DIVIDE_1   0xbu
#define VECTOR	   0x51u

/* Offsets in the page. */
#define ID	  0x20
#define VERSION	  0x30
#define TPR	  0x80
#define PPR	  0xa0
#define EOI	  0xb0
#define LDR	  0xd0
#define DFR	  0xe0
#define SVR	  0xf0
#define ISR	  0x100
#define TMR	  0x180
#define IRR	  0x200
#define ESR	  0x280
#define ICR	  0x300
#define ICR_HIGH  0x310
#define LVT_TIMER 0x320
#define LVT_ERROR 0x370
#define INITIAL	  0x380
#define CURRENT	  0x390
#define DIVIDE	  0x3e0
#define MSR(reg)  (0x800u + ((reg) >> 4))
#define MSR_SELF  0x83fu
#define VCPUS	  3

/* What the APIC calls, and what came of it. */
static struct {
	u64 tsc;
	_Atomic unsigned kicks[VCPUS];
	int eoi; /* the last vector that the board was told of */
	unsigned inits;
	struct machine machine;
	unsigned timer_calls;
	struct timespec timer; /* as last set */
} world;

u64 clock_tsc(void)
{
	return world.tsc;
}

u64 clock_tsc_to_ns(const struct soft *soft, u64 ticks)
{
	(void)soft;
	return ticks / TSC_PER_NS;
}

u64 clock_ns_to_tsc(const struct soft *soft, u64 ns)
{
	(void)soft;
	return ns * TSC_PER_NS;
}

void vcpu_kick(struct vcpu *vcpu, u32 why)
{
	assert_int_equal(why, POLL_INTERRUPT);
	world.kicks[vcpu->index]++;
}

void vcpu_set_segment(struct vcpu *vcpu, unsigned which, const struct segment *segment)
{
	vcpu->seg[which] = *segment;
	vcpu->ctx.base[which] = segment->base;
}

void vcpu_update_mode(struct vcpu *vcpu)
{
	(void)vcpu;
}

void vcpu_init(struct vcpu *vcpu)
{
	world.inits++;
	vcpu->nmi_pending = false;
	vcpu->waiting = true;
}

void vectors_save(struct vcpu *vcpu)
{
	vcpu->vectors_saved = true;
}

void board_eoi(struct board *board, u8 vector)
{
	(void)board;
	world.eoi = vector;
}

int timer_settime(timer_t timer, int flags, const struct itimerspec *restrict spec,
		  struct itimerspec *restrict old)
{
	(void)timer;
	assert_int_equal(flags, 0);
	assert_null(old);
	assert_int_equal(spec->it_interval.tv_sec, 0);
	assert_int_equal(spec->it_interval.tv_nsec, 0);
	world.timer = spec->it_value;
	world.timer_calls++;
	return 0;
}

static int setup(void **state)
{
	struct soft *soft = calloc(1, sizeof(*soft) + VCPUS * sizeof(soft->vcpus[0]));
	static struct board board = {.machine = &world.machine};

	memset(&world, 0, sizeof(world));
	assert_int_equal(machine_init(&world.machine), 0);
	soft->engine.board = &board;
	world.tsc = 1000000;
	world.eoi = -1;
	soft->vcpu_count = soft->vcpus_added = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++) {
		struct vcpu *vcpu = aligned_alloc(64, sizeof(*vcpu));

		memset(vcpu, 0, sizeof(*vcpu));
		vcpu->soft = soft;
		vcpu->index = i;
		vcpu->tid = 1;
		vcpu->lapic = lapic_new(vcpu);
		soft->vcpus[i] = vcpu;
		assert_non_null(vcpu->lapic);
	}
	*state = soft;
	return 0;
}

static int setup_enabled(void **state)
{
	struct soft *soft;

	setup(state);
	soft = *state;
	for (unsigned i = 0; i < VCPUS; i++)
		lapic_write(soft->vcpus[i], SVR, ENABLED);
	lapic_write(soft->vcpus[0], DIVIDE, DIVIDE_1);
	return 0;
}

static int teardown(void **state)
{
	struct soft *soft = *state;

	for (unsigned i = 0; i < VCPUS; i++) {
		lapic_free(soft->vcpus[i]->lapic);
		free(soft->vcpus[i]);
	}
	machine_destroy(&world.machine);
	free(soft);
	return 0;
}

static struct vcpu *first(void **state)
{
	struct soft *soft = *state;

	return soft->vcpus[0];
}

static void x2(struct vcpu *vcpu)
{
	assert_true(lapic_base_set(vcpu, lapic_base_get(vcpu) | APIC_BASE_X2));
}

/* The interrupt that is taken, or -1. */
static int take(struct vcpu *vcpu)
{
	int vector = lapic_pending(vcpu);

	if (vector >= 0)
		lapic_accept(vcpu, vector);
	return vector;
}

static void advance_ns(struct vcpu *vcpu, u64 ns)
{
	world.tsc += ns * TSC_PER_NS;
	lapic_tick(vcpu);
}

static u64 armed_ns(void)
{
	return world.timer.tv_sec * 1000000000ull + world.timer.tv_nsec;
}

static void edge(struct soft *soft, u8 vector)
{
	lapic_message(soft, LAYOUT_LAPIC, vector);
}

static void level(struct soft *soft, u8 vector)
{
	lapic_message(soft, LAYOUT_LAPIC, vector | 3u << 14);
}

static void test_after_reset(void **state)
{
	struct soft *soft = *state;
	struct vcpu *vcpu = first(state), *second = soft->vcpus[1];

	assert_int_equal(lapic_base_get(vcpu), 0xfee00900);
	assert_int_equal(lapic_base_get(second), 0xfee00800);
	assert_int_equal(lapic_read(second, ID), 1u << 24);
	assert_int_equal(lapic_read(vcpu, VERSION), 0x50014);
	assert_int_equal(lapic_read(vcpu, SVR), 0xff);
	assert_int_equal(lapic_read(vcpu, DFR), 0xffffffff);
	for (u32 offset = LVT_TIMER; offset <= LVT_ERROR; offset += 0x10)
		assert_int_equal(lapic_read(vcpu, offset), MASKED);
	/* Software-disabled: no interrupts, and vectors stay masked. */
	edge(*state, VECTOR);
	assert_int_equal(lapic_pending(vcpu), -1);
	assert_int_equal(lapic_read(vcpu, IRR + 0x20), 0);
	lapic_write(vcpu, LVT_TIMER, VECTOR);
	assert_int_equal(lapic_read(vcpu, LVT_TIMER), MASKED | VECTOR);
}

static void test_disabling_masks(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_write(vcpu, LVT_TIMER, VECTOR);
	assert_int_equal(lapic_read(vcpu, LVT_TIMER), VECTOR);
	edge(*state, VECTOR);
	lapic_write(vcpu, SVR, 0xff);
	assert_int_equal(lapic_read(vcpu, LVT_TIMER), MASKED | VECTOR);
	assert_int_equal(lapic_pending(vcpu), -1);
	/* NMIs pass. */
	lapic_message(*state, LAYOUT_LAPIC, 4u << 8);
	lapic_tick(vcpu);
	assert_true(vcpu->nmi_pending);
	/* What was requested is held, and somebody is told. */
	world.kicks[0] = 0;
	lapic_write(vcpu, SVR, ENABLED);
	assert_int_equal(world.kicks[0], 1);
	assert_int_equal(take(vcpu), VECTOR);
}

static void test_priorities(void **state)
{
	struct vcpu *vcpu = first(state);

	edge(*state, 0x41);
	edge(*state, 0x45);
	edge(*state, 0xff);
	assert_int_equal(world.kicks[0], 3);
	assert_int_equal(take(vcpu), 0xff);
	assert_int_equal(lapic_read(vcpu, PPR), 0xf0);
	assert_int_equal(lapic_read(vcpu, ISR + 0x70), 1u << 31);
	assert_int_equal(lapic_pending(vcpu), -1);
	lapic_write(vcpu, EOI, 0);
	assert_int_equal(world.kicks[0], 4);
	assert_int_equal(take(vcpu), 0x45);
	/* The same class has to wait, a higher one need not. */
	assert_int_equal(lapic_pending(vcpu), -1);
	edge(*state, 0x50);
	assert_int_equal(take(vcpu), 0x50);
	lapic_write(vcpu, EOI, 0);
	lapic_write(vcpu, EOI, 0);
	assert_int_equal(take(vcpu), 0x41);
	lapic_write(vcpu, EOI, 0);
	lapic_write(vcpu, EOI, 0); /* one too many */
	assert_int_equal(lapic_read(vcpu, PPR), 0);
	assert_int_equal(world.eoi, -1);
}

static void test_task_priority(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_set_tpr(vcpu, 0x50);
	edge(*state, 0x5f);
	assert_int_equal(lapic_pending(vcpu), -1);
	lapic_write(vcpu, TPR, 0x4f);
	assert_int_equal(world.kicks[0], 2);
	assert_int_equal(lapic_tpr(vcpu), 0x4f);
	assert_int_equal(lapic_read(vcpu, PPR), 0x4f);
	assert_int_equal(lapic_pending(vcpu), 0x5f);
}

/* The board hears of the end of a level-triggered interrupt, even if it may send it again at once.
 */
static void test_level(void **state)
{
	struct vcpu *vcpu = first(state);

	level(*state, VECTOR);
	assert_int_equal(lapic_read(vcpu, TMR + 0x20), 1u << (VECTOR & 31));
	assert_int_equal(lapic_read(vcpu, IRR + 0x20), 1u << (VECTOR & 31));
	assert_int_equal(take(vcpu), VECTOR);
	assert_int_equal(world.eoi, -1);
	lapic_write(vcpu, EOI, 0);
	assert_int_equal(world.eoi, VECTOR);
	assert_true(vcpu->vectors_saved);
	/* From now on it is an edge. */
	world.eoi = -1;
	edge(*state, VECTOR);
	assert_int_equal(lapic_read(vcpu, TMR + 0x20), 0);
	assert_int_equal(take(vcpu), VECTOR);
	lapic_write(vcpu, EOI, 0);
	assert_int_equal(world.eoi, -1);
	/* A level's release is not an interrupt. */
	lapic_message(*state, LAYOUT_LAPIC, VECTOR | 1u << 15);
	assert_int_equal(lapic_pending(vcpu), -1);
}

/* Bit n: vCPU n has one, which is then taken. */
static unsigned who(struct soft *soft)
{
	unsigned set = 0;

	for (unsigned i = 0; i < VCPUS; i++) {
		if (take(soft->vcpus[i]) < 0)
			continue;
		set |= 1u << i;
		lapic_write(soft->vcpus[i], EOI, 0);
		lapic_x2_write(soft->vcpus[i], MSR(EOI), 0);
	}
	return set;
}

static void message_to(struct soft *soft, u8 destination, u32 flags, u32 data)
{
	lapic_message(soft, LAYOUT_LAPIC | (u32)destination << 12 | flags, data);
}

#define LOGICAL (1u << 2)
#define HINT	(1u << 3)
#define LOWEST	(1u << 8)

static void test_destinations(void **state)
{
	struct soft *soft = *state;

	message_to(soft, 2, 0, VECTOR);
	assert_int_equal(who(soft), 4);
	message_to(soft, 0xff, 0, VECTOR);
	assert_int_equal(who(soft), 7);
	message_to(soft, 9, 0, VECTOR);
	assert_int_equal(who(soft), 0);
	/* Not a place for interrupts. */
	lapic_message(soft, 0xfed00000, VECTOR);
	lapic_message(soft, 0x1fee00000, VECTOR);
	assert_int_equal(who(soft), 0);

	for (unsigned i = 0; i < VCPUS; i++)
		lapic_write(soft->vcpus[i], LDR, 0xffffffu | 1u << (24 + i));
	assert_int_equal(lapic_read(soft->vcpus[1], LDR), 2u << 24);
	message_to(soft, 5, LOGICAL, VECTOR);
	assert_int_equal(who(soft), 5);

	/* Clusters: high half which, low half who. */
	for (unsigned i = 0; i < VCPUS; i++) {
		lapic_write(soft->vcpus[i], DFR, 0);
		lapic_write(soft->vcpus[i], LDR, (i ? 0x10u : 0x20u) << 24 | 1u << (24 + i));
	}
	assert_int_equal(lapic_read(soft->vcpus[1], DFR), 0x0fffffff);
	message_to(soft, 0x17, LOGICAL, VECTOR);
	assert_int_equal(who(soft), 6);
	message_to(soft, 0xff, LOGICAL, VECTOR);
	assert_int_equal(who(soft), 7);
}

static void test_lowest_priority(void **state)
{
	struct soft *soft = *state;

	lapic_set_tpr(soft->vcpus[0], 0x20);
	message_to(soft, 0xff, 0, VECTOR | LOWEST);
	assert_int_equal(who(soft), 2);
	lapic_set_tpr(soft->vcpus[1], 0x30);
	message_to(soft, 0xff, HINT, VECTOR);
	assert_int_equal(who(soft), 4);
	/* Those that take none are not asked. */
	lapic_write(soft->vcpus[2], SVR, 0xff);
	message_to(soft, 0xff, 0, VECTOR | LOWEST);
	assert_int_equal(who(soft), 1);
}

static void test_x2_destinations(void **state)
{
	struct soft *soft = *state;
	u64 value;

	for (unsigned i = 0; i < VCPUS; i++)
		x2(soft->vcpus[i]);
	assert_true(lapic_x2_read(soft->vcpus[2], MSR(ID), &value));
	assert_int_equal(value, 2);
	assert_true(lapic_x2_read(soft->vcpus[2], MSR(LDR), &value));
	assert_int_equal(value, 4);
	message_to(soft, 6, LOGICAL, VECTOR);
	assert_int_equal(who(soft), 6);
	message_to(soft, 1, 0, VECTOR);
	assert_int_equal(who(soft), 2);

	/* Commands have 32 bits for whom they are for. */
	assert_true(lapic_x2_write(soft->vcpus[0], MSR(ICR), 2ull << 32 | VECTOR));
	assert_int_equal(who(soft), 4);
	assert_true(lapic_x2_write(soft->vcpus[0], MSR(ICR), 0xffffffffull << 32 | VECTOR));
	assert_int_equal(who(soft), 7);
	assert_true(lapic_x2_write(soft->vcpus[0], MSR(ICR), 0xffull << 32 | VECTOR));
	assert_int_equal(who(soft), 0);
	assert_true(
		lapic_x2_write(soft->vcpus[0], MSR(ICR), 1ull << 48 | 1ull << 32 | 0x800 | VECTOR));
	assert_int_equal(who(soft), 0); /* another cluster */
	assert_true(lapic_x2_write(soft->vcpus[0], MSR_SELF, VECTOR));
	assert_int_equal(who(soft), 1);
	assert_false(lapic_x2_write(soft->vcpus[0], MSR_SELF, 0x100));
}

static void test_commands(void **state)
{
	struct soft *soft = *state;
	struct vcpu *vcpu = soft->vcpus[1];

	lapic_write(vcpu, ICR_HIGH, 2u << 24);
	lapic_write(vcpu, ICR, 0x4000 | VECTOR);
	assert_int_equal(who(soft), 4);
	assert_int_equal(lapic_read(vcpu, ICR), 0x4000 | VECTOR);
	assert_int_equal(lapic_read(vcpu, ICR_HIGH), 2u << 24);
	lapic_write(vcpu, ICR, 1u << 18 | VECTOR); /* self */
	assert_int_equal(who(soft), 2);
	lapic_write(vcpu, ICR, 2u << 18 | VECTOR); /* all */
	assert_int_equal(who(soft), 7);
	lapic_write(vcpu, ICR, 3u << 18 | VECTOR); /* all but self */
	assert_int_equal(who(soft), 5);
	lapic_write(vcpu, ICR, 3u << 18 | 1u << 8 | VECTOR); /* one of those */
	assert_int_equal(who(soft), 1);
	lapic_write(vcpu, ICR, 3u << 18 | 4u << 8); /* NMI */
	assert_int_equal(who(soft), 0);
	for (unsigned i = 0; i < VCPUS; i++)
		lapic_tick(soft->vcpus[i]);
	assert_true(soft->vcpus[0]->nmi_pending);
	assert_false(soft->vcpus[1]->nmi_pending);
	assert_true(soft->vcpus[2]->nmi_pending);
}

#define OTHERS	(3u << 18)
#define INIT	(5u << 8)
#define SIPI	(6u << 8)
#define ASSERT	0x4000u
#define TRIGGER 0x8000u

static void test_startup(void **state)
{
	struct soft *soft = *state;
	struct vcpu *second = soft->vcpus[1], *third = soft->vcpus[2];

	second->waiting = true;
	second->ctx.rip = 0xfff0;
	third->ctx.rip = 0x1234;
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x9a);
	lapic_tick(second);
	lapic_tick(third);
	assert_false(second->waiting);
	assert_int_equal(second->ctx.rip, 0);
	assert_int_equal(second->seg[CS].selector, 0x9a00);
	assert_int_equal(second->ctx.base[CS], 0x9a000);
	/* It was not waiting for one. */
	assert_int_equal(third->ctx.rip, 0x1234);
	/* Nor does the second start anybody twice. */
	second->ctx.rip = 0x4321;
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x9b);
	lapic_tick(second);
	assert_int_equal(second->ctx.rip, 0x4321);
	assert_int_equal(second->seg[CS].selector, 0x9a00);
}

static void test_init(void **state)
{
	struct soft *soft = *state;
	struct vcpu *second = soft->vcpus[1];

	/* What becomes of the APIC. */
	lapic_write(second, LDR, 2u << 24);
	lapic_set_tpr(second, 0x30);
	edge(soft, VECTOR);
	lapic_message(soft, LAYOUT_LAPIC | 1u << 12, VECTOR);
	lapic_write(soft->vcpus[0], ICR, OTHERS | INIT | ASSERT | TRIGGER);
	lapic_tick(second);
	assert_int_equal(world.inits, 1);
	assert_true(second->waiting);
	assert_int_equal(lapic_read(second, SVR), 0xff);
	assert_int_equal(lapic_read(second, LDR), 0);
	assert_int_equal(lapic_tpr(second), 0);
	assert_int_equal(lapic_read(second, ID), 1u << 24);
	assert_int_equal(lapic_read(second, IRR + VECTOR / 32 * 16), 0);
	assert_int_equal(lapic_read(second, LVT_TIMER), MASKED);

	/* Who waits for a SIPI takes nothing else. */
	lapic_message(soft, LAYOUT_LAPIC | 1u << 12, VECTOR);
	lapic_message(soft, LAYOUT_LAPIC | 1u << 12, 4u << 8);
	lapic_tick(second);
	assert_false(second->nmi_pending);
	assert_int_equal(lapic_read(second, IRR + VECTOR / 32 * 16), 0);
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 7);
	lapic_tick(second);
	assert_false(second->waiting);
	assert_false(second->nmi_pending);

	/* Its end, and one by a shorthand that means the sender too. */
	lapic_write(soft->vcpus[0], ICR, OTHERS | INIT | TRIGGER);
	lapic_write(second, ICR, 2u << 18 | INIT | ASSERT);
	lapic_write(second, ICR, 1u << 18 | INIT | ASSERT);
	lapic_tick(second);
	assert_int_equal(world.inits, 1);
	/* But by its name anybody can be called. */
	lapic_write(second, ICR_HIGH, 1u << 24);
	lapic_write(second, ICR, INIT | ASSERT);
	lapic_tick(second);
	assert_int_equal(world.inits, 2);
}

/* A CPU that is slow to take its messages still takes them in order. */
static void test_init_late(void **state)
{
	struct soft *soft = *state;
	struct vcpu *vcpu = soft->vcpus[1];

	lapic_write(soft->vcpus[0], ICR, OTHERS | INIT | ASSERT);
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x10);
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x20);
	lapic_tick(vcpu);
	assert_int_equal(world.inits, 1);
	assert_false(vcpu->waiting);
	assert_int_equal(vcpu->seg[CS].selector, 0x1000);

	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x30);
	lapic_write(soft->vcpus[0], ICR, OTHERS | INIT | ASSERT);
	lapic_tick(vcpu);
	assert_int_equal(world.inits, 2);
	assert_true(vcpu->waiting);
	lapic_write(soft->vcpus[0], ICR, OTHERS | SIPI | 0x40);
	lapic_tick(vcpu);
	assert_int_equal(vcpu->seg[CS].selector, 0x4000);
}

static void test_init_of_the_first(void **state)
{
	struct soft *soft = *state;

	lapic_write(soft->vcpus[1], ICR, OTHERS | INIT | ASSERT);
	for (unsigned i = 0; i < VCPUS; i++)
		lapic_tick(soft->vcpus[i]);
	assert_int_equal(world.inits, 1);
	assert_false(machine_running(&world.machine));
	assert_int_equal(world.machine.status, EXIT_CRASHED);
	assert_true(soft->vcpus[0]->leave);
	assert_false(soft->vcpus[1]->leave);
	/* Which one is the first, is in the register. */
	assert_true(lapic_base_set(soft->vcpus[0], LAYOUT_LAPIC | APIC_BASE_ENABLE));
	lapic_write(soft->vcpus[1], ICR, OTHERS | INIT | ASSERT);
	lapic_tick(soft->vcpus[0]);
	assert_int_equal(world.inits, 2);
	assert_true(soft->vcpus[0]->waiting);
}

/* The mode is kept, and in x2APIC mode its name with it; and nobody hears what is switched off. */
static void test_init_x2(void **state)
{
	struct soft *soft = *state;
	struct vcpu *second = soft->vcpus[1];
	u64 value;

	x2(second);
	assert_true(lapic_x2_write(second, MSR(TPR), 0x20));
	lapic_message(soft, LAYOUT_LAPIC | 1u << 12, INIT);
	lapic_tick(second);
	assert_int_equal(world.inits, 1);
	assert_true(lapic_base_get(second) & APIC_BASE_X2);
	assert_true(lapic_x2_read(second, MSR(LDR), &value));
	assert_int_equal(value, 2);
	assert_true(lapic_x2_read(second, MSR(TPR), &value));
	assert_int_equal(value, 0);

	assert_true(lapic_base_set(second, LAYOUT_LAPIC));
	lapic_write(soft->vcpus[0], ICR, OTHERS | INIT | ASSERT);
	lapic_tick(second);
	assert_int_equal(world.inits, 1);
}

static void test_errors(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_write(vcpu, LVT_ERROR, 0xfe);
	edge(*state, 15);
	assert_int_equal(lapic_read(vcpu, ESR), 0); /* until it is written */
	lapic_write(vcpu, ESR, 0);
	assert_int_equal(lapic_read(vcpu, ESR), 1u << 6);
	lapic_tick(vcpu);
	assert_int_equal(take(vcpu), 0xfe);
	lapic_write(vcpu, EOI, 0);
	lapic_write(vcpu, ICR, 3);
	lapic_read(vcpu, 0x3f0);
	lapic_write(vcpu, ESR, 0);
	assert_int_equal(lapic_read(vcpu, ESR), 1u << 5 | 1u << 7);
	lapic_write(vcpu, ESR, 0);
	assert_int_equal(lapic_read(vcpu, ESR), 0);

	/* An error about the error's own vector ends there. */
	lapic_tick(vcpu);
	assert_int_equal(take(vcpu), 0xfe);
	lapic_write(vcpu, EOI, 0);
	lapic_write(vcpu, LVT_ERROR, 3);
	edge(*state, 15);
	lapic_tick(vcpu);
	assert_int_equal(take(vcpu), -1);
}

static void test_one_shot(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_write(vcpu, LVT_TIMER, VECTOR);
	lapic_write(vcpu, INITIAL, 1000);
	assert_in_range(armed_ns(), 1000, 1002);
	advance_ns(vcpu, 400);
	assert_int_equal(lapic_read(vcpu, CURRENT), 600);
	assert_int_equal(take(vcpu), -1);
	advance_ns(vcpu, 599);
	assert_int_equal(take(vcpu), -1);
	advance_ns(vcpu, 1);
	assert_int_equal(take(vcpu), VECTOR);
	assert_int_equal(lapic_read(vcpu, CURRENT), 0);
	assert_int_equal(armed_ns(), 0);
	lapic_write(vcpu, EOI, 0);
	advance_ns(vcpu, 5000);
	assert_int_equal(take(vcpu), -1);
	/* 0 stops it. */
	lapic_write(vcpu, INITIAL, 1000);
	lapic_write(vcpu, INITIAL, 0);
	assert_int_equal(armed_ns(), 0);
	advance_ns(vcpu, 5000);
	assert_int_equal(take(vcpu), -1);
}

static void test_divide(void **state)
{
	static const u8 codes[] = {0xb, 0x0, 0x1, 0x2, 0x3, 0x8, 0x9, 0xa};
	struct vcpu *vcpu = first(state);

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		lapic_write(vcpu, DIVIDE, codes[i]);
		lapic_write(vcpu, INITIAL, 1000);
		advance_ns(vcpu, 128);
		assert_int_equal(lapic_read(vcpu, CURRENT), 1000 - (128 >> i));
	}
	/* While it counts: it goes on from there, at the new rate. */
	lapic_write(vcpu, DIVIDE, 0x0);
	lapic_write(vcpu, INITIAL, 1000);
	advance_ns(vcpu, 200);
	lapic_write(vcpu, DIVIDE, 0x1);
	assert_int_equal(lapic_read(vcpu, CURRENT), 900);
	advance_ns(vcpu, 400);
	assert_int_equal(lapic_read(vcpu, CURRENT), 800);
}

static void test_periodic(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_write(vcpu, LVT_TIMER, PERIODIC | VECTOR);
	lapic_write(vcpu, INITIAL, 100000);
	for (int i = 0; i < 3; i++) {
		advance_ns(vcpu, 100000);
		assert_int_equal(take(vcpu), VECTOR);
		lapic_write(vcpu, EOI, 0);
	}
	/* A long sleep: one, and then in phase. */
	advance_ns(vcpu, 1030000);
	assert_int_equal(take(vcpu), VECTOR);
	lapic_write(vcpu, EOI, 0);
	lapic_tick(vcpu);
	assert_int_equal(take(vcpu), -1);
	assert_int_equal(lapic_read(vcpu, CURRENT), 70000);
	assert_in_range(armed_ns(), 70000, 70002);
	advance_ns(vcpu, 69999);
	assert_int_equal(take(vcpu), -1);
	advance_ns(vcpu, 1);
	assert_int_equal(take(vcpu), VECTOR);
	lapic_write(vcpu, EOI, 0);

	/* Masked, it goes on counting; the host's timer does not. */
	lapic_write(vcpu, LVT_TIMER, PERIODIC | MASKED | VECTOR);
	assert_int_equal(armed_ns(), 0);
	advance_ns(vcpu, 250000);
	assert_int_equal(take(vcpu), -1);
	lapic_write(vcpu, LVT_TIMER, PERIODIC | VECTOR);
	assert_int_equal(take(vcpu), -1);
	assert_in_range(armed_ns(), 50000, 50002);
}

/* The shortest period there is does not have the host ring at that rate. */
static void test_short_period(void **state)
{
	struct vcpu *vcpu = first(state);

	lapic_write(vcpu, LVT_TIMER, PERIODIC | VECTOR);
	lapic_write(vcpu, INITIAL, 1);
	assert_int_equal(armed_ns(), 10000);
	advance_ns(vcpu, 10000);
	assert_int_equal(take(vcpu), VECTOR);
	assert_int_equal(armed_ns(), 10000);
}

static void test_deadline(void **state)
{
	struct vcpu *vcpu = first(state);
	unsigned calls;

	/* In another mode there is none. */
	lapic_set_deadline(vcpu, world.tsc + 10);
	assert_int_equal(lapic_deadline(vcpu), 0);

	lapic_write(vcpu, LVT_TIMER, DEADLINE | VECTOR);
	lapic_set_deadline(vcpu, world.tsc + 1000000 * TSC_PER_NS);
	assert_in_range(armed_ns(), 1000000, 1000001);
	calls = world.timer_calls;
	advance_ns(vcpu, 900000);
	assert_int_equal(world.timer_calls, calls); /* it is still set */
	/* The host's timer may be a little early. */
	advance_ns(vcpu, 99500);
	assert_int_equal(take(vcpu), -1);
	assert_in_range(armed_ns(), 500, 501);
	advance_ns(vcpu, 499);
	assert_int_equal(take(vcpu), -1);
	advance_ns(vcpu, 1);
	assert_int_equal(lapic_deadline(vcpu), 0);
	assert_int_equal(take(vcpu), VECTOR);
	assert_int_equal(armed_ns(), 0);
	lapic_write(vcpu, EOI, 0);

	/* What is past rings at once; 0 disarms. */
	world.kicks[0] = 0;
	lapic_set_deadline(vcpu, world.tsc);
	assert_int_equal(world.kicks[0], 1);
	assert_int_equal(take(vcpu), VECTOR);
	lapic_write(vcpu, EOI, 0);
	lapic_set_deadline(vcpu, world.tsc + 100);
	lapic_set_deadline(vcpu, 0);
	assert_int_equal(armed_ns(), 0);
	advance_ns(vcpu, 1000);
	assert_int_equal(take(vcpu), -1);
	/* The end of time is far, but a number like any other. */
	lapic_set_deadline(vcpu, UINT64_MAX);
	lapic_set_deadline(vcpu, UINT64_MAX - 1);
	advance_ns(vcpu, 1000);
	assert_int_equal(take(vcpu), -1);
	assert_int_equal(lapic_deadline(vcpu), UINT64_MAX - 1);

	/* Leaving the mode disarms. */
	lapic_set_deadline(vcpu, world.tsc + 100);
	lapic_write(vcpu, LVT_TIMER, VECTOR);
	assert_int_equal(lapic_deadline(vcpu), 0);
	assert_int_equal(armed_ns(), 0);
}

static void test_deadline_adjusted(void **state)
{
	struct vcpu *vcpu = first(state);

	vcpu->tsc_adjust = -(world.tsc - 50); /* the guest's TSC says 50 */
	lapic_write(vcpu, LVT_TIMER, DEADLINE | VECTOR);
	lapic_set_deadline(vcpu, 50 + 1000 * TSC_PER_NS);
	assert_in_range(armed_ns(), 1000, 1001);
	advance_ns(vcpu, 999);
	assert_int_equal(take(vcpu), -1);
	advance_ns(vcpu, 1);
	assert_int_equal(take(vcpu), VECTOR);
}

/* Before its thread runs, a vCPU has no timer to set. */
static void test_no_thread(void **state)
{
	struct vcpu *vcpu = first(state);

	vcpu->tid = 0;
	world.timer_calls = 0;
	lapic_write(vcpu, LVT_TIMER, VECTOR);
	lapic_write(vcpu, INITIAL, 1000);
	assert_int_equal(world.timer_calls, 0);
	vcpu->tid = 1;
	lapic_tick(vcpu);
	assert_in_range(armed_ns(), 1000, 1002);
}

static void test_base(void **state)
{
	struct vcpu *vcpu = first(state);
	const u64 on = 0xfee00900;
	u64 value;

	assert_false(lapic_base_set(vcpu, 0xfed00900));
	assert_false(lapic_base_set(vcpu, on | 1));
	assert_false(lapic_base_set(vcpu, on | 1ull << 40));
	assert_false(lapic_base_set(vcpu, 0xfee00500)); /* x2APIC, disabled */
	assert_true(lapic_base_set(vcpu, on));
	assert_false(lapic_x2_read(vcpu, MSR(ID), &value));
	assert_false(lapic_x2_write(vcpu, MSR(TPR), 0));

	lapic_write(vcpu, TPR, 0x20);
	x2(vcpu);
	assert_int_equal(lapic_base_get(vcpu), 0xfee00d00);
	assert_int_equal(lapic_read(vcpu, VERSION), 0xffffffff);
	lapic_write(vcpu, TPR, 0x70);
	assert_true(lapic_x2_read(vcpu, MSR(TPR), &value));
	assert_int_equal(value, 0x20);
	assert_false(lapic_base_set(vcpu, on)); /* there is no way straight back */
	assert_true(lapic_base_set(vcpu, 0xfee00100));
	message_to(*state, 0, 0, VECTOR);
	assert_int_equal(take(vcpu), -1);
	assert_false(lapic_base_set(vcpu, on | APIC_BASE_X2));
	assert_true(lapic_base_set(vcpu, on));
	assert_int_equal(lapic_read(vcpu, SVR), 0xff);
	assert_int_equal(lapic_read(vcpu, TPR), 0);
}

static void test_x2_reserved(void **state)
{
	static const u32 absent[] = {0x800, 0x801, 0x804, 0x809, 0x80c, 0x80e,
				     0x82f, 0x831, 0x83a, 0x83d, 0x840, 0x8ff};
	static const u32 read_only[] = {0x802, 0x803, 0x80a, 0x80d, 0x810, 0x827, 0x839};
	struct vcpu *vcpu = first(state);
	u64 value;

	x2(vcpu);
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
		assert_false(lapic_x2_read(vcpu, absent[i], &value));
		assert_false(lapic_x2_write(vcpu, absent[i], 0));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++) {
		assert_true(lapic_x2_read(vcpu, read_only[i], &value));
		assert_false(lapic_x2_write(vcpu, read_only[i], 0));
	}
	assert_false(lapic_x2_read(vcpu, MSR(EOI), &value));
	assert_false(lapic_x2_write(vcpu, MSR(EOI), 1));
	assert_false(lapic_x2_write(vcpu, MSR(ESR), 1));
	assert_true(lapic_x2_write(vcpu, MSR(ESR), 0));
	assert_false(lapic_x2_write(vcpu, MSR(TPR), 0x100));
	assert_false(lapic_x2_write(vcpu, MSR(INITIAL), 1ull << 32));
	assert_false(lapic_x2_write(vcpu, MSR(LVT_TIMER), 1u << 8));
	assert_true(lapic_x2_write(vcpu, MSR(LVT_TIMER), DEADLINE | VECTOR));
	assert_true(lapic_x2_read(vcpu, MSR(LVT_TIMER), &value));
	assert_int_equal(value, DEADLINE | VECTOR);
}

/* What is no register reads 0 and takes anything, and none of it does harm. */
static void test_hostile_accesses(void **state)
{
	struct vcpu *vcpu = first(state);

	for (u32 offset = 0; offset < PAGE_SIZE; offset++) {
		lapic_read(vcpu, offset);
		lapic_write(vcpu, offset, 0xffffffff);
		lapic_write(vcpu, offset, 0);
		lapic_tick(vcpu);
	}
	assert_int_equal(lapic_read(vcpu, VERSION), 0x50014);
	assert_int_equal(lapic_read(vcpu, VERSION + 4), 0);
}

/* Devices, while the vCPU takes and ends what they send: nothing is lost, nothing comes twice. */
static void *send_all(void *opaque)
{
	struct soft *machine = opaque;

	for (unsigned vector = 16; vector < 256; vector++)
		message_to(machine, 0xff, 0, vector | (vector % 2 ? 3u << 14 : 0));
	return NULL;
}

static void test_threads(void **state)
{
	struct vcpu *vcpu = first(state);
	unsigned taken[256] = {0};
	pthread_t device;

	assert_int_equal(pthread_create(&device, NULL, send_all, *state), 0);
	for (unsigned count = 0; count < 240;) {
		int vector = take(vcpu);

		if (vector < 0)
			continue;
		world.eoi = -1;
		lapic_write(vcpu, EOI, 0);
		assert_int_equal(world.eoi, vector % 2 ? vector : -1);
		taken[vector]++;
		count++;
	}
	pthread_join(device, NULL);
	assert_int_equal(lapic_pending(vcpu), -1);
	for (unsigned vector = 16; vector < 256; vector++)
		assert_int_equal(taken[vector], 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_enabled, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_after_reset, setup, teardown),
		TEST(test_disabling_masks),
		TEST(test_priorities),
		TEST(test_task_priority),
		TEST(test_level),
		TEST(test_destinations),
		TEST(test_lowest_priority),
		TEST(test_x2_destinations),
		TEST(test_commands),
		TEST(test_startup),
		TEST(test_init),
		TEST(test_init_late),
		TEST(test_init_of_the_first),
		TEST(test_init_x2),
		TEST(test_errors),
		TEST(test_one_shot),
		TEST(test_divide),
		TEST(test_periodic),
		TEST(test_short_period),
		TEST(test_deadline),
		TEST(test_deadline_adjusted),
		TEST(test_no_thread),
		TEST(test_base),
		TEST(test_x2_reserved),
		TEST(test_hostile_accesses),
		TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
