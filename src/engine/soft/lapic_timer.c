/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The timer of the local APIC.
 *
 * It counts at 1 GHz, or compares with the guest's TSC. It is not a thing that runs: it is a
 * moment, which is compared with the clock whenever someone looks. A host timer only sees to it
 * that someone does. All of it is the vCPU's thread's.
 *
 * Tour 6.606: A timer that does not run
 */
#include "engine/soft/lapic.h"

#include <time.h>

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_DEADLINE };

/*
 * A guest may ask for a period of 1 ns. It gets an interrupt whenever it looks, but the host's
 * timer rings no more often than this.
 */
#define PERIOD_MIN_NS 10000u

/*
 * The host's timer follows a clock that is steered, by less than 1 part in this many; so it may
 * ring a little early by ours. Linux slews by 1 in 2,000 at most.
 */
#define CLOCK_AGREEMENT 1024u

static unsigned timer_mode(const struct lapic *lapic)
{
	return (lapic->lvt[LVT_TIMER] & LVT_MODE) >> LVT_MODE_SHIFT;
}

/* Intel SDM 3A, "Divide Configuration Register": bits 3, 1 and 0; 7 is 1, 0 is 2, 1 is 4. */
static unsigned divide_shift(u32 divide)
{
	return ((divide >> 1 & 4) + (divide & 3) + 1) & 7;
}

static u64 period_ns(const struct lapic *lapic)
{
	return (u64)lapic->initial << divide_shift(lapic->divide);
}

static u64 elapsed_ns(const struct lapic *lapic)
{
	return clock_tsc_to_ns(lapic->vcpu->soft, clock_tsc() - lapic->started);
}

static u64 guest_tsc(const struct lapic *lapic)
{
	return clock_tsc() + lapic->vcpu->tsc_adjust;
}

static void timer_ring(struct lapic *lapic)
{
	if (!(lapic->lvt[LVT_TIMER] & LVT_MASKED))
		lapic_request(lapic, lapic->lvt[LVT_TIMER] & LVT_VECTOR, false);
}

/*
 * Has it rung since we last looked? A periodic timer whose vCPU was kept off the host's CPU for
 * many periods rings once, and is in phase ever after.
 *
 * Tour 6.607: Has it rung?
 */
static void timer_look(struct lapic *lapic)
{
	u64 periods;

	if (timer_mode(lapic) == TIMER_DEADLINE) {
		if (!lapic->deadline || guest_tsc(lapic) < lapic->deadline)
			return;
		lapic->deadline = 0;
		timer_ring(lapic);
		return;
	}
	if (!lapic->counting)
		return;
	periods = elapsed_ns(lapic) / period_ns(lapic);
	if (periods == lapic->periods)
		return;
	lapic->periods = periods;
	lapic->counting = timer_mode(lapic) == TIMER_PERIODIC;
	timer_ring(lapic);
}

/* When it rings next, by the host's TSC. */
static u64 timer_next(const struct lapic *lapic)
{
	u64 ns;

	if (lapic->lvt[LVT_TIMER] & LVT_MASKED)
		return NEVER;
	if (timer_mode(lapic) == TIMER_DEADLINE)
		return lapic->deadline ? lapic->deadline - lapic->vcpu->tsc_adjust : NEVER;
	if (!lapic->counting)
		return NEVER;
	ns = (lapic->periods + 1) * period_ns(lapic);
	/* One tick more, for what is rounded off. */
	return lapic->started + 1 + clock_ns_to_tsc(lapic->vcpu->soft, ns);
}

/*
 * Set the host's timer to that moment: a system call, so not if it is set already. It was set as
 * a distance, and may have rung early for the reason given above; then it is set anew for the rest.
 *
 * Tour 6.608: And when will it?
 */
static void timer_arm(struct lapic *lapic)
{
	struct vcpu *vcpu = lapic->vcpu;
	u64 now = clock_tsc(), next = timer_next(lapic), span, left = 0;
	struct itimerspec spec = {.it_value = {0}};

	if (!vcpu->tid)
		return;
	span = lapic->armed_for - lapic->armed_since;
	if (next == lapic->armed_for &&
	    (next == NEVER || now - lapic->armed_since < span - span / CLOCK_AGREEMENT))
		return;
	if (next != NEVER) {
		/* 0 would switch it off. */
		left = 1 + clock_tsc_to_ns(vcpu->soft, next > now ? next - now : 0);
		if (timer_mode(lapic) == TIMER_PERIODIC)
			left = MAX(left, PERIOD_MIN_NS);
		spec.it_value.tv_sec = left / 1000000000u;
		spec.it_value.tv_nsec = left % 1000000000u;
	}
	lapic->armed_for = next;
	lapic->armed_since = now;
	vectors_save(vcpu);
	timer_settime(vcpu->timer, 0, &spec, NULL);
}

void lapic_timer_update(struct lapic *lapic)
{
	timer_look(lapic);
	timer_arm(lapic);
}

u32 lapic_timer_current(const struct lapic *lapic)
{
	unsigned shift = divide_shift(lapic->divide);
	u64 elapsed;

	if (!lapic->counting)
		return 0;
	elapsed = elapsed_ns(lapic);
	if (timer_mode(lapic) == TIMER_PERIODIC)
		elapsed %= period_ns(lapic);
	else if (elapsed >= period_ns(lapic))
		return 0;
	return lapic->initial - (elapsed >> shift);
}

/* As if it had begun with the running period, and with that divisor. */
static void timer_rebase(struct lapic *lapic, u32 divide)
{
	u64 gone = lapic->initial - lapic_timer_current(lapic);

	lapic->divide = divide;
	lapic->periods = 0;
	lapic->started =
		clock_tsc() - clock_ns_to_tsc(lapic->vcpu->soft, gone << divide_shift(divide));
}

static void timer_stop(struct lapic *lapic)
{
	lapic->counting = false;
	lapic->initial = 0;
	lapic->deadline = 0;
}

void lapic_timer_reset(struct lapic *lapic)
{
	lapic->divide = 0;
	timer_stop(lapic);
	timer_arm(lapic);
}

/* Intel SDM 3A, "TSC-Deadline Mode": going there, or leaving, disarms. */
void lapic_timer_set_lvt(struct lapic *lapic, u32 value)
{
	unsigned before, after;

	timer_look(lapic);
	before = timer_mode(lapic);
	if (lapic->counting && (lapic->lvt[LVT_TIMER] ^ value) & LVT_MODE)
		timer_rebase(lapic, lapic->divide);
	lapic->lvt[LVT_TIMER] = value;
	after = timer_mode(lapic);
	if (before != after && (before == TIMER_DEADLINE || after == TIMER_DEADLINE))
		timer_stop(lapic);
	timer_arm(lapic);
}

void lapic_timer_set_initial(struct lapic *lapic, u32 value)
{
	if (timer_mode(lapic) == TIMER_DEADLINE)
		return;
	lapic->initial = value;
	lapic->counting = value != 0;
	lapic->started = clock_tsc();
	lapic->periods = 0;
	lapic_timer_update(lapic);
}

void lapic_timer_set_divide(struct lapic *lapic, u32 value)
{
	timer_look(lapic);
	if (lapic->counting)
		timer_rebase(lapic, value);
	else
		lapic->divide = value;
	timer_arm(lapic);
}

void lapic_set_deadline(struct vcpu *vcpu, u64 tsc)
{
	struct lapic *lapic = vcpu->lapic;

	if (timer_mode(lapic) != TIMER_DEADLINE)
		return;
	lapic->deadline = tsc;
	lapic_timer_update(lapic);
}

u64 lapic_deadline(struct vcpu *vcpu)
{
	struct lapic *lapic = vcpu->lapic;

	/* It reads 0 once it has passed, whether or not anybody has told the host's timer yet. */
	timer_look(lapic);
	return lapic->deadline;
}
