/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debugging a guest on KVM: debug.h's operations.
 *
 * A vCPU stops in one place: in its own loop, after KVM_RUN has said EINTR, because then nothing
 * is half done. (An access to a device is, until the next KVM_RUN has put the answer into a
 * register.) To get it there, pause() sets immediate_exit and kicks, as stop() does; a vCPU that
 * meets a breakpoint sets it itself.
 *
 * The processor has four debug registers. While one of them is ours the guest's own do not work,
 * and what its own single steps and int3 raise comes to us first: what is not ours goes back
 * where it came from. Breakpoints are written into guest RAM as int3, as many as one likes, unless
 * nothing is mapped at that address yet; then one of the four has to do.
 *
 * The lock is held for moments. What it guards is who is stopped and who may go on; points
 * change only while nobody runs.
 *
 * Tour 8.30: Debugging on KVM
 */
#include "engine/kvm/internal.h"

#include "board/board.h"

#include <asm/processor-flags.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#define VECTOR_DB 1
#define VECTOR_BP 3

#define INT3 0xcc

/* Intel SDM 3B, "Debug Status Register (DR6)", "Debug Control Register (DR7)". */
#define DR6_BS		       (1u << 14)
#define DR6_HITS	       0xfu
#define DR7_RESERVED	       0x400u
#define DR7_EXACT	       0x200u
#define DR7_ENABLE(n)	       (2u << 2 * (n)) /* globally */
#define DR7_WHAT(n, type, len) (((type) | (len) << 2) << (16 + 4 * (n)))
#define DR7_EXECUTE	       0u
#define DR7_WRITE	       1u
#define DR7_ACCESS	       3u

#define MSR_KERNEL_GS_BASE 0xc0000102
#define CPUID_XSAVE	   0xd
#define XSAVE_LEGACY	   3 /* x87 and SSE: what there is without CPUID leaf 0xD */

static struct kvm *kvm_of(struct engine *engine)
{
	return container_of(engine, struct kvm, engine);
}

/* ------------------------------------------------------------------ a vCPU's thread */

void kvm_debug_enter(struct kvm *kvm, unsigned index)
{
	pthread_mutex_lock(&kvm->debug.lock);
	kvm->vcpus[index].in_run = true;
	pthread_mutex_unlock(&kvm->debug.lock);
}

void kvm_debug_leave(struct kvm *kvm, unsigned index)
{
	pthread_mutex_lock(&kvm->debug.lock);
	kvm->vcpus[index].in_run = false;
	pthread_cond_broadcast(&kvm->debug.changed);
	pthread_mutex_unlock(&kvm->debug.lock);
}

/*
 * Where a vCPU waits while its guest is looked at: on its own thread, between two KVM_RUNs.
 *
 * Tour 8.31
 */
void kvm_debug_gate(struct kvm *kvm, unsigned index)
{
	struct kvm_vcpu *vcpu = &kvm->vcpus[index];

	pthread_mutex_lock(&kvm->debug.lock);
	while (vcpu->action == DEBUG_STAY && machine_running(kvm->engine.board->machine)) {
		vcpu->stopped = true;
		pthread_cond_broadcast(&kvm->debug.changed);
		pthread_cond_wait(&kvm->debug.changed, &kvm->debug.lock);
	}
	vcpu->stopped = false;
	/* If the machine has just ended, kvm_stop() wanted it set; but that is seen by itself. */
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&kvm->debug.lock);
}

void kvm_debug_wake(struct kvm *kvm)
{
	pthread_mutex_lock(&kvm->debug.lock);
	pthread_cond_broadcast(&kvm->debug.changed);
	pthread_mutex_unlock(&kvm->debug.lock);
}

/* It goes no further than to the gate. */
static void hold(struct kvm_vcpu *vcpu)
{
	vcpu->action = DEBUG_STAY;
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

static void report(struct kvm *kvm, unsigned index, enum debug_reason reason,
		   const struct debug_point *point)
{
	struct debug_stop stop = {.vcpu = index, .reason = reason};

	if (point)
		stop.point = *point;
	pthread_mutex_lock(&kvm->debug.lock);
	hold(&kvm->vcpus[index]);
	pthread_mutex_unlock(&kvm->debug.lock);
	kvm->debug.debugger->stopped(kvm->debug.debugger, &stop);
}

/* What KVM is to do for the debugger while this vCPU runs. */
static struct kvm_guest_debug guest_debug(const struct kvm *kvm, const struct kvm_vcpu *vcpu)
{
	struct kvm_guest_debug debug = {.control = 0};
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};

	if (kvm->debug.patch_count)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
	for (unsigned i = 0; i < KVM_DEBUG_REGISTERS; i++) {
		const struct kvm_hard_point *hard = &kvm->debug.hard[i];

		if (!hard->used)
			continue;
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[i] = hard->address;
		debug.arch.debugreg[7] |=
			DR7_RESERVED | DR7_EXACT | DR7_ENABLE(i) |
			DR7_WHAT((unsigned)i, (u64)hard->type, (u64)hard->length_code);
	}
	if (!vcpu->stepping)
		return debug;
	debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp);
	if (kvm->debug.can_block_interrupts && mp.mp_state != KVM_MP_STATE_HALTED)
		debug.control |= KVM_GUESTDBG_BLOCKIRQ;
	return debug;
}

/* The guest's own exception, which KVM has shown to us instead. */
static void give_back(struct kvm *kvm, unsigned index, u32 inject)
{
	const struct kvm_vcpu *vcpu = &kvm->vcpus[index];
	struct kvm_guest_debug debug = guest_debug(kvm, vcpu);
	struct kvm_debugregs registers;

	if (inject == KVM_GUESTDBG_INJECT_DB && !ioctl(vcpu->fd, KVM_GET_DEBUGREGS, &registers)) {
		registers.dr6 |= vcpu->run->debug.arch.dr6 & (DR6_BS | DR6_HITS);
		ioctl(vcpu->fd, KVM_SET_DEBUGREGS, &registers);
	}
	debug.control |= KVM_GUESTDBG_ENABLE | inject;
	ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug);
}

static int kvm_translate(struct engine *engine, unsigned index, u64 address, u64 *gpa);

/* By where it is: another address may lead to it, too. */
static const struct kvm_patch *patch_at(struct kvm *kvm, unsigned index, u64 address)
{
	u64 gpa;

	if (kvm_translate(&kvm->engine, index, address, &gpa))
		return NULL;
	for (unsigned i = 0; i < kvm->debug.patch_count; i++)
		if (kvm->debug.patches[i].gpa == gpa)
			return &kvm->debug.patches[i];
	return NULL;
}

static void met_int3(struct kvm *kvm, unsigned index, u64 address)
{
	const struct kvm_patch *patch = patch_at(kvm, index, address);

	if (patch)
		report(kvm, index, DEBUG_AT_CODE, &patch->point);
	else
		give_back(kvm, index, KVM_GUESTDBG_INJECT_BP);
}

static void met_trap(struct kvm *kvm, unsigned index, u64 dr6)
{
	for (unsigned i = 0; i < KVM_DEBUG_REGISTERS; i++) {
		const struct kvm_hard_point *hard = &kvm->debug.hard[i];
		struct debug_point point = hard->point;

		if (!hard->used || !(dr6 & 1u << i))
			continue;
		if (hard->type == DR7_EXECUTE) {
			report(kvm, index, DEBUG_AT_CODE, &point);
		} else {
			point.address = hard->address;
			report(kvm, index, DEBUG_WATCHED, &point);
		}
		return;
	}
	if (dr6 & DR6_BS && kvm->vcpus[index].stepping)
		report(kvm, index, DEBUG_STEPPED, NULL);
	else
		give_back(kvm, index, KVM_GUESTDBG_INJECT_DB);
}

void kvm_debug_exit(struct kvm *kvm, unsigned index)
{
	const struct kvm_debug_exit_arch *arch = &kvm->vcpus[index].run->debug.arch;

	if (arch->exception == VECTOR_BP)
		met_int3(kvm, index, arch->pc);
	else
		met_trap(kvm, index, arch->dr6);
}

/* ------------------------------------------------------------------ stopping and going on */

void kvm_debug_init(struct kvm *kvm)
{
	pthread_mutex_init(&kvm->debug.lock, NULL);
	pthread_cond_init(&kvm->debug.changed, NULL);
}

void kvm_debug_destroy(struct kvm *kvm)
{
	pthread_mutex_destroy(&kvm->debug.lock);
	pthread_cond_destroy(&kvm->debug.changed);
}

void kvm_debug_forget(struct kvm *kvm)
{
	kvm->debug.patch_count = 0;
	memset(kvm->debug.hard, 0, sizeof(kvm->debug.hard));
}

static void kvm_attach(struct engine *engine, struct debugger *debugger)
{
	struct kvm *kvm = kvm_of(engine);
	int flags = ioctl(kvm->device, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);

	kvm->debug.debugger = debugger;
	kvm->debug.can_block_interrupts = flags > 0 && flags & KVM_GUESTDBG_BLOCKIRQ;
}

static bool all_stopped(const struct kvm *kvm)
{
	for (unsigned i = 0; i < kvm->vcpus_added; i++)
		if (kvm->vcpus[i].in_run && !kvm->vcpus[i].stopped)
			return false;
	return true;
}

static void kvm_pause(struct engine *engine)
{
	struct kvm *kvm = kvm_of(engine);

	pthread_mutex_lock(&kvm->debug.lock);
	for (unsigned i = 0; i < kvm->vcpus_added; i++) {
		struct kvm_vcpu *vcpu = &kvm->vcpus[i];

		hold(vcpu);
		if (atomic_load(&vcpu->started))
			pthread_kill(vcpu->thread, ENGINE_SIGNAL);
	}
	while (!all_stopped(kvm) &&
	       debug_wait(kvm->debug.debugger, &kvm->debug.changed, &kvm->debug.lock))
		;
	pthread_mutex_unlock(&kvm->debug.lock);
}

/* The gate opens for whoever finds an action; it takes its immediate_exit back by itself. */
static void kvm_resume(struct engine *engine, const enum debug_action *actions)
{
	struct kvm *kvm = kvm_of(engine);

	pthread_mutex_lock(&kvm->debug.lock);
	for (unsigned i = 0; i < kvm->vcpus_added; i++) {
		struct kvm_vcpu *vcpu = &kvm->vcpus[i];
		struct kvm_guest_debug debug;

		if (actions[i] == DEBUG_STAY)
			continue;
		vcpu->stepping = actions[i] == DEBUG_STEP;
		debug = guest_debug(kvm, vcpu);
		ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug);
		vcpu->action = actions[i];
	}
	pthread_cond_broadcast(&kvm->debug.changed);
	pthread_mutex_unlock(&kvm->debug.lock);
}

/* ------------------------------------------------------------------ registers */

static struct segment segment_of(const struct kvm_segment *s)
{
	return (struct segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->type,
		.s = s->s,
		.present = s->present && !s->unusable,
		.avl = s->avl,
		.l = s->l,
		.db = s->db,
		.g = s->g,
		.dpl = s->dpl,
	};
}

static int get_system_state(const struct kvm_vcpu *vcpu, struct cpu_state *state)
{
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return -errno;
	*state = (struct cpu_state){
		.cs = segment_of(&s.cs),
		.ds = segment_of(&s.ds),
		.es = segment_of(&s.es),
		.fs = segment_of(&s.fs),
		.gs = segment_of(&s.gs),
		.ss = segment_of(&s.ss),
		.tr = segment_of(&s.tr),
		.ldt = segment_of(&s.ldt),
		.gdt = {.base = s.gdt.base, .limit = s.gdt.limit},
		.idt = {.base = s.idt.base, .limit = s.idt.limit},
		.cr0 = s.cr0,
		.cr2 = s.cr2,
		.cr3 = s.cr3,
		.cr4 = s.cr4,
		.efer = s.efer,
	};
	return 0;
}

static int kvm_get_state(struct engine *engine, unsigned index, struct cpu_state *state)
{
	const struct kvm_vcpu *vcpu = &kvm_of(engine)->vcpus[index];
	struct kvm_regs r;
	int err = get_system_state(vcpu, state);

	if (err)
		return err;
	if (ioctl(vcpu->fd, KVM_GET_REGS, &r))
		return -errno;
	memcpy(state->gpr,
	       (const u64[16]){r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9,
			       r.r10, r.r11, r.r12, r.r13, r.r14, r.r15},
	       sizeof(state->gpr));
	state->rip = r.rip;
	state->rflags = r.rflags;
	return kvm_access_msr(vcpu, KVM_GET_MSRS, MSR_KERNEL_GS_BASE, &state->kernel_gs_base);
}

static int kvm_set_state(struct engine *engine, unsigned index, const struct cpu_state *state)
{
	const struct kvm_vcpu *vcpu = &kvm_of(engine)->vcpus[index];
	u64 gs_base = state->kernel_gs_base;
	int err = kvm_vcpu_set_state(vcpu, state);

	return err ? err : kvm_access_msr(vcpu, KVM_SET_MSRS, MSR_KERNEL_GS_BASE, &gs_base);
}

/* The components that the guest's CPUID tells of. */
static u64 xsave_features(const struct kvm *kvm)
{
	for (unsigned i = 0; i < kvm->cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &kvm->cpuid->entries[i];

		if (entry->function == CPUID_XSAVE && !entry->index)
			return entry->eax | (u64)entry->edx << 32 | XSAVE_LEGACY;
	}
	return XSAVE_LEGACY;
}

_Static_assert(sizeof(struct kvm_xsave) == DEBUG_XSAVE_SIZE, "the area, and nothing but the area");

static int kvm_get_xsave(struct engine *engine, unsigned index, struct debug_xsave *xsave)
{
	const struct kvm *kvm = kvm_of(engine);

	xsave->features = xsave_features(kvm);
	return ioctl(kvm->vcpus[index].fd, KVM_GET_XSAVE, xsave->area) ? -errno : 0;
}

static int kvm_set_xsave(struct engine *engine, unsigned index, const struct debug_xsave *xsave)
{
	return ioctl(kvm_of(engine)->vcpus[index].fd, KVM_SET_XSAVE, xsave->area) ? -errno : 0;
}

/* ------------------------------------------------------------------ memory */

/* The guest may have put something else there: then that is no longer ours. */
static bool still_there(const struct kvm *kvm, const struct kvm_patch *patch)
{
	return *(const u8 *)memory_at(kvm->engine.board->memory, patch->gpa, 1) == INT3;
}

/* KVM_TRANSLATE would set accessed bits. A vCPU's own thread may ask, too. */
static int kvm_translate(struct engine *engine, unsigned index, u64 address, u64 *gpa)
{
	struct cpu_state state;
	int err = get_system_state(&kvm_of(engine)->vcpus[index], &state);

	return err ? err : debug_walk(engine->board->memory, &state, address, gpa);
}

static int kvm_read(struct engine *engine, u64 gpa, void *to, u64 length)
{
	const struct kvm *kvm = kvm_of(engine);
	const void *from = memory_at(engine->board->memory, gpa, length);

	if (!from)
		return -EFAULT;
	memcpy(to, from, length);
	for (unsigned i = 0; i < kvm->debug.patch_count; i++) {
		const struct kvm_patch *patch = &kvm->debug.patches[i];

		if (patch->gpa - gpa < length && still_there(kvm, patch))
			((u8 *)to)[patch->gpa - gpa] = patch->old;
	}
	return 0;
}

static int kvm_write(struct engine *engine, u64 gpa, const void *from, u64 length)
{
	struct kvm *kvm = kvm_of(engine);
	u8 *to = memory_at(engine->board->memory, gpa, length);

	if (!to)
		return -EFAULT;
	memcpy(to, from, length);
	for (unsigned i = 0; i < kvm->debug.patch_count; i++) {
		struct kvm_patch *patch = &kvm->debug.patches[i];

		if (patch->gpa - gpa >= length)
			continue;
		patch->old = ((const u8 *)from)[patch->gpa - gpa];
		to[patch->gpa - gpa] = INT3;
	}
	return 0;
}

/* ------------------------------------------------------------------ points */

static bool same_point(const struct debug_point *a, const struct debug_point *b)
{
	return a->kind == b->kind && a->address == b->address && a->length == b->length;
}

/* How much of so many bytes one register can watch: as much as is aligned. */
static u64 piece_length(u64 address, u64 length)
{
	u64 piece = sizeof(u64);

	while (piece > length || !is_multiple(address, piece))
		piece /= 2;
	return piece;
}

static unsigned pieces(u64 address, u64 length)
{
	unsigned count = 0;

	for (; length && count <= KVM_DEBUG_REGISTERS; count++) {
		u64 piece = piece_length(address, length);

		address += piece;
		length -= piece;
	}
	return count;
}

static unsigned free_registers(const struct kvm *kvm)
{
	unsigned count = 0;

	for (unsigned i = 0; i < KVM_DEBUG_REGISTERS; i++)
		count += !kvm->debug.hard[i].used;
	return count;
}

/* There is one free. */
static void take_register(struct kvm *kvm, const struct debug_point *point, unsigned type,
			  u64 address, u64 length)
{
	static const u8 codes[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
	struct kvm_hard_point *hard = kvm->debug.hard;

	while (hard->used)
		hard++;
	*hard = (struct kvm_hard_point){true, type, codes[length], address, *point};
}

static int add_hard(struct kvm *kvm, const struct debug_point *point)
{
	const bool code = point->kind == DEBUG_CODE || point->kind == DEBUG_CODE_HARD;
	const unsigned type = code			   ? DR7_EXECUTE
			      : point->kind == DEBUG_WRITE ? DR7_WRITE
							   : DR7_ACCESS;
	u64 address = point->address, left = code ? 1 : point->length;

	if (pieces(address, left) > free_registers(kvm))
		return -ENOSPC;
	while (left) {
		u64 piece = piece_length(address, left);

		take_register(kvm, point, type, address, piece);
		address += piece;
		left -= piece;
	}
	return 0;
}

static int kvm_add_point(struct engine *engine, unsigned index, const struct debug_point *point)
{
	struct kvm *kvm = kvm_of(engine);
	struct kvm_debug *debug = &kvm->debug;
	u8 *at = NULL, old;
	u64 gpa;

	if (point->kind != DEBUG_CODE)
		return add_hard(kvm, point);
	if (!kvm_translate(engine, index, point->address, &gpa))
		at = memory_at(engine->board->memory, gpa, 1);
	if (!at)
		return add_hard(kvm, point) ? -EFAULT : 0;
	if (debug->patch_count == KVM_PATCHES)
		return -ENOSPC;
	/* Reading sees through others at this place: another address may lead here. */
	kvm_read(engine, gpa, &old, 1);
	debug->patches[debug->patch_count++] = (struct kvm_patch){*point, gpa, old};
	*at = INT3;
	return 0;
}

static void remove_patch(struct kvm *kvm, struct kvm_patch *patch)
{
	struct kvm_debug *debug = &kvm->debug;
	const struct kvm_patch removed = *patch;

	*patch = debug->patches[--debug->patch_count];
	for (unsigned i = 0; i < debug->patch_count; i++)
		if (debug->patches[i].gpa == removed.gpa)
			return;
	if (still_there(kvm, &removed))
		*(u8 *)memory_at(kvm->engine.board->memory, removed.gpa, 1) = removed.old;
}

static void kvm_remove_point(struct engine *engine, const struct debug_point *point)
{
	struct kvm *kvm = kvm_of(engine);
	struct kvm_debug *debug = &kvm->debug;

	for (unsigned i = 0; i < KVM_DEBUG_REGISTERS; i++)
		if (debug->hard[i].used && same_point(&debug->hard[i].point, point))
			debug->hard[i].used = false;
	for (unsigned i = 0; i < debug->patch_count; i++) {
		if (same_point(&debug->patches[i].point, point)) {
			remove_patch(kvm, &debug->patches[i]);
			return;
		}
	}
}

const struct debug_ops kvm_debug = {
	.attach = kvm_attach,
	.pause = kvm_pause,
	.resume = kvm_resume,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
	.get_xsave = kvm_get_xsave,
	.set_xsave = kvm_set_xsave,
	.translate = kvm_translate,
	.read = kvm_read,
	.write = kvm_write,
	.add_point = kvm_add_point,
	.remove_point = kvm_remove_point,
};
