/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debugger outside the machine: engine/debug.h's operations. Stopping vCPUs and letting
 * them go, and their state while they are stopped. What stops one by itself - its points, and
 * the end of a step - is found in debug.c.
 *
 * A vCPU stops between two instructions, in its own thread, and waits here; that it shall,
 * it is told by a kick, as of everything else. While it waits, nobody but the debugger touches
 * it: neither its memory nor its registers are locked for that, for the thread that waits
 * does nothing, and the lock by which it began to wait has ordered all that it did before.
 *
 * Tour 8.40: Debugging on the soft engine
 */
#include "board/board.h"
#include "engine/soft/fpu.h"
#include "engine/soft/paging.h"
#include "engine/soft/soft.h"

#include <asm/processor-flags.h>
#include <errno.h>
#include <string.h>

static struct soft *soft_of(struct engine *engine)
{
	return container_of(engine, struct soft, engine);
}

static struct vcpu *vcpu_of(struct engine *engine, unsigned index)
{
	return soft_of(engine)->vcpus[index];
}

/* ------------------------------------------------------------------ the vCPU's side */

static bool machine_runs(const struct soft *soft)
{
	return machine_running(soft->engine.board->machine);
}

static void take_action(struct vcpu *vcpu)
{
	vcpu->watch.step = vcpu->held.action == DEBUG_STEP ? STEP_WANTED : STEP_NONE;
	vcpu->held.action = DEBUG_RUN;
}

/*
 * With the lock: until resume(), or the end of the machine.
 *
 * Tour 8.41
 */
static void wait(struct vcpu *vcpu)
{
	struct attached *attached = &vcpu->soft->attached;

	vectors_save(vcpu);
	vcpu->held.stopped = true;
	pthread_cond_broadcast(&attached->changed);
	while (vcpu->held.stopped && machine_runs(vcpu->soft))
		pthread_cond_wait(&attached->changed, &attached->lock);
	vcpu->held.stopped = false;
	take_action(vcpu);
}

void debugger_stop_if_wanted(struct vcpu *vcpu)
{
	struct attached *attached = &vcpu->soft->attached;

	if (!attached->debugger)
		return;
	vectors_save(vcpu);
	vcpu_rest(vcpu);
	pthread_mutex_lock(&attached->lock);
	if (vcpu->held.wanted)
		wait(vcpu);
	pthread_mutex_unlock(&attached->lock);
	vcpu_resume(vcpu);
}

void debugger_stop(struct vcpu *vcpu, enum debug_reason reason, const struct debug_point *point)
{
	struct attached *attached = &vcpu->soft->attached;
	struct debug_stop stop = {.vcpu = vcpu->index, .reason = reason};

	if (point)
		stop.point = *point;
	vectors_save(vcpu);
	vcpu_rest(vcpu);
	/* It has stopped when it has told: nobody lets it go on before. */
	attached->debugger->stopped(attached->debugger, &stop);
	pthread_mutex_lock(&attached->lock);
	wait(vcpu);
	pthread_mutex_unlock(&attached->lock);
	vcpu_resume(vcpu);
}

/* What was asked of it before it was there, it hears now. */
void debugger_enter(struct vcpu *vcpu)
{
	struct attached *attached = &vcpu->soft->attached;

	if (!attached->debugger)
		return;
	pthread_mutex_lock(&attached->lock);
	vcpu->held.inside = true;
	take_action(vcpu);
	if (vcpu->held.wanted)
		wait(vcpu);
	pthread_mutex_unlock(&attached->lock);
}

void debugger_leave(struct vcpu *vcpu)
{
	struct attached *attached = &vcpu->soft->attached;

	if (!attached->debugger)
		return;
	pthread_mutex_lock(&attached->lock);
	vcpu->held.inside = false;
	pthread_cond_broadcast(&attached->changed);
	pthread_mutex_unlock(&attached->lock);
}

/* ------------------------------------------------------------------ stop and go */

static void attach(struct engine *engine, struct debugger *debugger)
{
	soft_of(engine)->attached.debugger = debugger;
}

static bool all_stopped(const struct soft *soft)
{
	for (unsigned i = 0; i < soft->vcpus_added; i++)
		if (soft->vcpus[i]->held.inside && !soft->vcpus[i]->held.stopped)
			return false;
	return true;
}

/* Kicked without the lock's knowledge: a kick is atomics, and whoever comes then waits for it. */
static void stop_all(struct engine *engine)
{
	struct soft *soft = soft_of(engine);
	struct attached *attached = &soft->attached;

	pthread_mutex_lock(&attached->lock);
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		soft->vcpus[i]->held.wanted = true;
		vcpu_kick(soft->vcpus[i], POLL_DEBUG);
	}
	/* If the machine ends meanwhile, they leave run(). */
	while (!all_stopped(soft) &&
	       debug_wait(attached->debugger, &attached->changed, &attached->lock))
		;
	pthread_mutex_unlock(&attached->lock);
}

static void let_go(struct engine *engine, const enum debug_action *actions)
{
	struct soft *soft = soft_of(engine);
	struct attached *attached = &soft->attached;

	pthread_mutex_lock(&attached->lock);
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		struct held *held = &soft->vcpus[i]->held;

		if (actions[i] == DEBUG_STAY)
			continue;
		held->action = actions[i];
		held->wanted = held->stopped = false;
	}
	pthread_cond_broadcast(&attached->changed);
	pthread_mutex_unlock(&attached->lock);
}

void debugger_end(struct soft *soft)
{
	struct attached *attached = &soft->attached;

	pthread_mutex_lock(&attached->lock);
	pthread_cond_broadcast(&attached->changed);
	pthread_mutex_unlock(&attached->lock);
}

/* ------------------------------------------------------------------ registers */

static int get_state(struct engine *engine, unsigned vcpu, struct cpu_state *state)
{
	vcpu_get_state(vcpu_of(engine, vcpu), state);
	return 0;
}

/*
 * The mode is not the debugger's to change: control registers that switch it depend on each other
 * and on what the guest is about to do.
 */
static bool keeps_mode(const struct vcpu *vcpu, const struct cpu_state *state)
{
	return state->cr0 == vcpu->cr0 && state->cr4 == vcpu->cr4 && state->efer == vcpu->efer &&
	       state->ss.dpl <= 3 && !((state->rflags ^ vcpu->sysflags) & X86_EFLAGS_VM);
}

/* What was going to happen to an instruction at one place does not happen to one at another. */
static void move(struct vcpu *vcpu)
{
	vcpu->shadow = SHADOW_NONE;
	vcpu->stepping = false;
	vcpu->watch.hits = 0;
	vcpu->halted = false;
}

static int set_state(struct engine *engine, unsigned index, const struct cpu_state *state)
{
	struct vcpu *vcpu = vcpu_of(engine, index);

	if (!keeps_mode(vcpu, state))
		return -EINVAL;
	if (state->cr3 != vcpu->cr3 && !control_load_cr3(vcpu, state->cr3)) {
		vcpu->exception.pending = false;
		return -EINVAL;
	}
	if (state->rip != vcpu->ctx.rip)
		move(vcpu);
	vcpu_set_state(vcpu, state);
	return 0;
}

static int get_xsave(struct engine *engine, unsigned index, struct debug_xsave *xsave)
{
	struct vcpu *vcpu = vcpu_of(engine, index);

	_Static_assert(sizeof(xsave->area) <= PAGE_SIZE, "a vCPU has a page for it");
	xsave->features = vcpu->soft->cpuid.xsave.components;
	memcpy(xsave->area, fpu_image(vcpu), sizeof(xsave->area));
	return 0;
}

/* XRSTOR must not fault on it. What is not in use is there all the same: see fpu_image(). */
static int set_xsave(struct engine *engine, unsigned index, const struct debug_xsave *xsave)
{
	struct vcpu *vcpu = vcpu_of(engine, index);
	const struct image *from = (const struct image *)(const void *)xsave->area;
	struct image *to = fpu_image(vcpu);
	u32 mxcsr_mask = to->mxcsr_mask;

	if (from->xstate_bv & ~vcpu->soft->cpuid.xsave.components ||
	    !fpu_mxcsr_valid(vcpu, from->mxcsr))
		return -EINVAL;
	memcpy(to, from, sizeof(xsave->area));
	to->mxcsr_mask = mxcsr_mask;
	to->xcomp_bv = 0;
	memset(to->header, 0, sizeof(to->header));
	fpu_make_initial(to, ~to->xstate_bv);
	if (!(to->xstate_bv & COMPONENT_AVX))
		memset(to->ymm_high, 0, sizeof(to->ymm_high));
	return 0;
}

/* ------------------------------------------------------------------ memory */

static int translate(struct engine *engine, unsigned vcpu, u64 address, u64 *gpa)
{
	return paging_peek(vcpu_of(engine, vcpu), address, gpa) ? 0 : -EFAULT;
}

static int read_ram(struct engine *engine, u64 gpa, void *to, u64 length)
{
	const u8 *host = ram_at(soft_of(engine), gpa);

	if (!host)
		return -EFAULT;
	memcpy(to, host, length);
	return 0;
}

static int write_ram(struct engine *engine, u64 gpa, const void *from, u64 length)
{
	struct soft *soft = soft_of(engine);
	u8 *host = ram_at(soft, gpa);

	if (!host)
		return -EFAULT;
	memcpy(host, from, length);
	cache_device_wrote(soft, gpa, length);
	return 0;
}

/* ------------------------------------------------------------------ points */

/* Whoever has tags or jumps that lead past one forgets them. */
static void update_all(struct soft *soft)
{
	for (unsigned i = 0; i < soft->vcpus_added; i++)
		debug_update(soft->vcpus[i]);
}

/* They are addresses, and nothing that anybody could see is changed for them. */
static int add_point(struct engine *engine, unsigned vcpu, const struct debug_point *point)
{
	struct soft *soft = soft_of(engine);
	struct attached *attached = &soft->attached;

	(void)vcpu;
	if (attached->count == ARRAY_SIZE(attached->points))
		return -ENOSPC;
	attached->points[attached->count++] = *point;
	update_all(soft);
	return 0;
}

static bool same_point(const struct debug_point *one, const struct debug_point *other)
{
	return one->kind == other->kind && one->address == other->address &&
	       one->length == other->length;
}

static void remove_point(struct engine *engine, const struct debug_point *point)
{
	struct soft *soft = soft_of(engine);
	struct attached *attached = &soft->attached;

	for (unsigned i = 0; i < attached->count; i++)
		if (same_point(&attached->points[i], point)) {
			attached->points[i] = attached->points[--attached->count];
			break;
		}
	update_all(soft);
}

const struct debug_ops soft_debug = {
	.attach = attach,
	.pause = stop_all,
	.resume = let_go,
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
