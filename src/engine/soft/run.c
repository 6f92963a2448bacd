/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a vCPU: its thread goes into translated code once and stays there,
 * but for events. soft_event() serves them and says where to go on: behind the
 * site, or at the block for whatever rip has become (next_code()). Before each such
 * step it looks at what others want: interrupts, the end of the machine, code that a
 * device overwrote.
 *
 * The host's own traps come here too. A division by zero in translated code is a
 * division by zero in the guest: the signal's handler finds out which instruction it
 * was, and makes it an event.
 *
 * Tour 6.70: The life of a vCPU
 */
#include "board/board.h"
#include "engine/soft/segment.h"
#include "engine/soft/translate.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* ------------------------------------------------------------------ small handlers */

/* KVM's answer to a hypercall that it does not know; a guest may ask, having seen its signature. */
#define KVM_ENOSYS 1000

bool system_vmcall(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (vcpu->cpl)
		return raise_fault(vcpu, VECTOR_UD);
	vcpu->ctx.gpr[RAX] = -(u64)KVM_ENOSYS;
	return true;
}

/* ------------------------------------------------------------------ sleeping and being called */

/*
 * The thread is asleep until vcpu_kick().
 *
 * Waking is others' affair: they leave in `poll` what they want, and see that somebody looks.
 * answer() is who looks, between two instructions, and opens the jump caches again that were
 * closed to make it come.
 *
 * Tour 6.71, 2 items: Asleep, and called
 */
static void doze(struct vcpu *vcpu)
{
	vcpu_rest(vcpu);
	atomic_store(&vcpu->asleep, 1);
	if (!atomic_load(&vcpu->ctx.poll))
		syscall(SYS_futex, &vcpu->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
	atomic_store(&vcpu->asleep, 0);
	vcpu_resume(vcpu);
}

/* Take in what others wanted. */
static void answer(struct vcpu *vcpu)
{
	u32 poll = atomic_exchange(&vcpu->ctx.poll, 0);

	while (poll & POLL_DEBUG) {
		debugger_stop_if_wanted(vcpu);
		/* That took a while. */
		poll = (poll & ~POLL_DEBUG) | atomic_exchange(&vcpu->ctx.poll, 0);
	}
	atomic_store(&vcpu->ctx.jump_mask, JUMP_ENTRIES - 1);
	atomic_store(&vcpu->ctx.return_mask, vcpu->ctx.call_mask);
	/* Somebody may have come meanwhile. */
	if (atomic_load(&vcpu->ctx.poll)) {
		atomic_store(&vcpu->ctx.jump_mask, 0);
		atomic_store(&vcpu->ctx.return_mask, 0);
	}
	vcpu->stats.polls++;
	if (!machine_running(vcpu->soft->engine.board->machine))
		vcpu->leave = true;
	if (poll & POLL_VISIT)
		vcpu_give_way(vcpu);
	if (poll & POLL_CODE)
		cache_drop_written(vcpu);
	if (poll & POLL_INTERRUPT)
		lapic_tick(vcpu);
}

/* Something that an instruction boundary is good for: true: it was delivered. */
static bool take_interrupt(struct vcpu *vcpu)
{
	int vector;

	/* Behind MOV SS nothing comes: the stack may be half switched. */
	if (vcpu->nmi_pending && !vcpu->nmi_blocked && vcpu->shadow != SHADOW_SS) {
		vcpu->nmi_pending = false;
		interrupt_deliver(vcpu, VECTOR_NMI);
		return true;
	}
	vector = lapic_pending(vcpu);
	vcpu->interrupt_waiting = vector >= 0 || vcpu->nmi_pending;
	if (vector < 0 || !vcpu->ctx.intflag || vcpu->shadow)
		return false;
	lapic_accept(vcpu, vector);
	interrupt_deliver(vcpu, vector);
	return true;
}

static bool sleeps(const struct vcpu *vcpu)
{
	return !vcpu->leave && (vcpu->halted || vcpu->waiting);
}

/* HLT ends with an interrupt or an INIT, and the wait after INIT with a SIPI alone. */
static void halt(struct vcpu *vcpu)
{
	u64 began = clock_tsc();

	vcpu->stats.halts++;
	vectors_save(vcpu);
	while (sleeps(vcpu)) {
		if (atomic_load(&vcpu->ctx.poll))
			answer(vcpu);
		else
			lapic_tick(vcpu);
		if (vcpu->halted)
			take_interrupt(vcpu);
		if (sleeps(vcpu))
			doze(vcpu);
	}
	vcpu->stats.ticks_halted += clock_tsc() - began;
}

/* ------------------------------------------------------------------ from rip to code */

/* Is there a limit to look at before each block? See limit.c. */
static bool is_limited(u32 mode)
{
	return mode & MODE_CODE && !(mode & MODE_FLAT);
}

/* Where the bytes at that address are. False: the fetch faults, recorded. */
static bool find_bytes(struct vcpu *vcpu, u64 linear, u64 *gpa)
{
	return mmu_translate(vcpu, linear, ACCESS_FETCH, gpa) &&
	       (ram_at(vcpu->soft, *gpa) || raise_fault(vcpu, VECTOR_UD));
}

/* The block at rip, translated if need be. NULL: the fetch faults, recorded. */
static struct block *find_block(struct vcpu *vcpu, u64 linear, u32 mode)
{
	u64 gpa, gpa2, next = align_down(linear, PAGE_SIZE) + PAGE_SIZE;
	struct block *block;

	if (!find_bytes(vcpu, linear, &gpa))
		return NULL;
	block = cache_find(vcpu, gpa, 0, mode);
	if (!block)
		block = translate(vcpu, linear, gpa, 0, mode);
	if (!block->crosses)
		return block;
	/* Its instruction crosses into the next page: both belong to it. */
	if (is_limited(mode) && vcpu_rip(vcpu, next) > vcpu->seg[CS].limit) {
		raise_error(vcpu, VECTOR_GP, 0);
		return NULL;
	}
	if (!find_bytes(vcpu, next, &gpa2))
		return NULL;
	block = cache_find(vcpu, gpa, gpa2, mode | MODE_CROSSING);
	return block ? block : translate(vcpu, linear, gpa, gpa2, mode | MODE_CROSSING);
}

/*
 * The same for whatever rip is, as far as its segment reaches. A block that goes on beyond the end
 * may not get there, so it is taken one instruction at a time.
 */
static struct block *find_code(struct vcpu *vcpu, u32 mode)
{
	u64 rip = vcpu->ctx.rip, limit = vcpu->seg[CS].limit, linear = vcpu_linear(vcpu, rip);
	struct block *block = NULL;

	if (!is_limited(mode))
		return find_block(vcpu, linear, mode);
	if (rip <= limit) {
		block = find_block(vcpu, linear, mode);
		if (block && rip + block->length - 1 > limit)
			block = find_block(vcpu, linear, mode | MODE_SINGLE);
		if (!block || rip + block->length - 1 <= limit)
			return block;
	}
	raise_error(vcpu, VECTOR_GP, 0);
	return NULL;
}

/* Does anybody want to hear of the end of this instruction? */
static bool wants_to_know(const struct vcpu *vcpu)
{
	const struct watch *watch = &vcpu->watch;

	return vcpu->stepping || watch->hits || watch->touched || watch->step;
}

/* The next one begins, without the RF of the one before: must it be alone in its block? */
static bool begin_alone(struct vcpu *vcpu)
{
	struct watch *watch = &vcpu->watch;
	bool again = watch->again;

	watch->again = false;
	if (watch->step)
		watch->step = STEP_DONE;
	vcpu->stepping = vcpu->sysflags & X86_EFLAGS_TF;
	vcpu->sysflags &= ~(u64)X86_EFLAGS_RF;
	return again || watch->code || wants_to_know(vcpu);
}

/*
 * What translated code would find in the jump cache, had it not come to C. NULL: nothing.
 */
static const void *known_code(struct vcpu *vcpu, u64 linear)
{
	const void *code = jump_find(vcpu, linear);

	if (code) {
		TRACE(vcpu, EXEC, "%c  0x%llx", "ku"[vcpu->cpl == 3], (unsigned long long)linear);
		vcpu->ctx.address = linear;
	}
	return code;
}

/*
 * Where to go on: translated code for ctx.rip, after all that comes before it. NULL: nowhere.
 *
 * This is the one place between two instructions, and all that may happen there happens here,
 * in the architecture's order: an exception that was recorded, a trap of the last instruction,
 * what others want of us, sleep, an interrupt, a breakpoint. Only then is there code to look
 * for: in a cell, in the jump cache, in the code cache, and at last by translating it.
 *
 * Tour 6.72: What comes next?
 */
static const void *next_code(struct vcpu *vcpu)
{
	for (;;) {
		bool shadow = vcpu->shadow, polled = false;
		bool remembered; /* by jump caches: nobody has to come by here the next time */
		struct block *block;
		const void *known;
		u64 linear;
		u32 mode;

		if (vcpu->exception.pending) {
			/* It did not come to its end, and neither do its traps. */
			vcpu->stepping = false;
			vcpu->watch.hits = 0;
			vcpu->watch.touched = false;
			interrupt_deliver_exception(vcpu);
			continue;
		}
		/* A trap: behind the instruction, before any interrupt. */
		if (wants_to_know(vcpu) && debug_behind(vcpu))
			continue;
		if (atomic_load(&vcpu->ctx.poll)) {
			answer(vcpu);
			bare_sample(vcpu);
			polled = true;
		}
		if (vcpu->leave)
			return NULL;
		if (vcpu->halted || vcpu->waiting) {
			vcpu->shadow = SHADOW_NONE;
			halt(vcpu);
			continue;
		}
		vcpu->interrupt_waiting |= polled;
		if (vcpu->interrupt_waiting && vcpu->watch.step == STEP_NONE &&
		    take_interrupt(vcpu))
			continue;
		linear = vcpu_linear(vcpu, vcpu->ctx.rip);
		vcpu->insn_rip = vcpu->ctx.rip;
		if (vcpu->watch.armed & WATCH_CODE && debug_before(vcpu, linear))
			continue;
		/* Not before: a debugger may have had its hands in it meanwhile. */
		mode = vcpu->mode;
		if (begin_alone(vcpu) || (shadow && vcpu->interrupt_waiting)) {
			mode |= MODE_SINGLE;
		} else if (bare_is_wanted(vcpu)) {
			enum bare_result result = bare_run(vcpu);

			if (result == BARE_RAN)
				continue;
			if (result == BARE_ALONE)
				mode |= MODE_SINGLE;
		}
		vcpu->watch.alone = mode & MODE_SINGLE;
		vcpu->shadow = SHADOW_NONE;
		remembered = !(mode & MODE_SINGLE) && !bare_is_wanted(vcpu);
		known = remembered ? known_code(vcpu, linear) : NULL;
		if (known)
			return known;
		block = find_code(vcpu, mode);
		if (!block)
			continue;
		TRACE(vcpu, EXEC, "%c%u 0x%llx%s", "ku"[vcpu->cpl == 3], block -> insns,
		      (unsigned long long)linear, mode &MODE_SINGLE ? " alone" : "");
		if (remembered && !is_limited(mode))
			jump_remember(vcpu, linear, block);
		vcpu->ctx.address = linear;
		return block->code;
	}
}

/* ------------------------------------------------------------------ events */

static u64 site_rip(const struct vcpu *vcpu, const struct site *site)
{
	return vcpu_rip(vcpu, vcpu->ctx.page + site->offset);
}

static const void *go_on(struct vcpu *vcpu, u64 linear)
{
	vcpu->ctx.rip = vcpu_rip(vcpu, linear);
	return next_code(vcpu);
}

/* Did the guest just end the machine? Then nothing more may come of it. */
static bool ended(struct vcpu *vcpu)
{
	if (machine_running(vcpu->soft->engine.board->machine))
		return false;
	vcpu->leave = true;
	return true;
}

/* A jump inside the page that comes by for the first time. */
static const void *serve_link(struct vcpu *vcpu, const struct site *site)
{
	struct cache *cache = vcpu->cache;
	struct link *link = (struct link *)site->arg;
	u64 linear = vcpu->ctx.page + site->offset, epoch = cache->epoch;
	struct block *block;

	vcpu->ctx.rip = vcpu_rip(vcpu, linear);
	vcpu->insn_rip = vcpu->ctx.rip;
	/*
	 * A block of a unit that was dropped is a link to what is there now, and a jump cache may
	 * still lead to it: next_code() would, and while an interrupt waits that may not be taken,
	 * nothing else would ever be done here.
	 */
	jump_forget(vcpu, linear);
	if (atomic_load(&vcpu->ctx.poll) || vcpu->interrupt_waiting || vcpu->shadow)
		return next_code(vcpu);
	block = find_block(vcpu, linear, vcpu->mode);
	if (!block || block->mode & MODE_CROSSING || cache->epoch != epoch || link->to)
		return next_code(vcpu);
	cache_link(cache, link, block);
	vcpu->stats.links++;
	return block->inner;
}

/* CMPS and SCAS end early: has this one? */
static bool string_ended(const struct vcpu *vcpu, const struct insn *insn)
{
	bool compares = (insn->opcode & 0xf6) == 0xa6, zero = vcpu->ctx.arith & X86_EFLAGS_ZF;

	return compares && zero != (insn->repeat == 0xf3);
}

static bool is_stepped(const struct vcpu *vcpu)
{
	return vcpu->stepping || vcpu->watch.step;
}

/* A single step is one repetition of a string instruction. */
static bool step_string(struct vcpu *vcpu, const struct insn *insn)
{
	u64 count = gpr_read(vcpu, RCX, insn->addrsize);

	if (count < 2)
		return insn->handler(vcpu, insn);
	gpr_write(vcpu, RCX, insn->addrsize, 1);
	if (!insn->handler(vcpu, insn)) {
		gpr_write(vcpu, RCX, insn->addrsize, count);
		return false;
	}
	/* Called away before it did anything, or done once. */
	if (!gpr_read(vcpu, RCX, insn->addrsize))
		count--;
	gpr_write(vcpu, RCX, insn->addrsize, count);
	if (!string_ended(vcpu, insn))
		vcpu->ctx.rip = vcpu->insn_rip;
	return true;
}

static const void *serve_insn(struct vcpu *vcpu, const struct site *site)
{
	const struct insn *insn = (const struct insn *)site->arg;
	u64 epoch = vcpu->cache->epoch, next;
	u32 mode = vcpu->mode;

	vcpu->insn_rip = site_rip(vcpu, site);
	next = vcpu_rip(vcpu, vcpu->ctx.page + site->offset + insn->length);
	vcpu->ctx.rip = next;
	vcpu->stats.system_insns++;
	vcpu->stats.executed[insn->mnemonic % ARRAY_SIZE(vcpu->stats.executed)]++;
	if (!(is_stepped(vcpu) && insn->repeat ? step_string : insn->handler)(vcpu, insn)) {
		if (insn->has_memory && insn->segment == SS)
			raised_through_stack(vcpu);
		vcpu->ctx.rip = vcpu->insn_rip;
		return next_code(vcpu);
	}
	/* What comes between two repetitions comes in the midst of an instruction. */
	if (insn->repeat && vcpu->ctx.rip == vcpu->insn_rip)
		vcpu->sysflags |= X86_EFLAGS_RF;
	if (ended(vcpu) || site->flags & SITE_LAST || vcpu->ctx.rip != next || vcpu->mode != mode ||
	    vcpu->cache->epoch != epoch || vcpu->shadow || vcpu->sysflags & X86_EFLAGS_TF ||
	    atomic_load(&vcpu->ctx.poll))
		return next_code(vcpu);
	return site + 1;
}

static const void *serve_fault(struct vcpu *vcpu)
{
	vcpu_let_others_run(vcpu);
	vcpu->ctx.rip = vcpu->insn_rip;
	return next_code(vcpu);
}

/* An error code is 0 where the exception has one. */
static const void *serve_raise(struct vcpu *vcpu, enum vector vector)
{
	if (vector == VECTOR_GP || vector == VECTOR_AC)
		raise_error(vcpu, vector, 0);
	else
		raise_fault(vcpu, vector);
	return serve_fault(vcpu);
}

/*
 * What translated code could not do, by kind. Whatever comes of it is an address to go on at:
 * mostly the one behind the site.
 *
 * Tour 6.73, 2 items: Events
 */
static const void *serve(struct vcpu *vcpu, const struct site *site)
{
	const void *code;

	switch (site->kind) {
	case SITE_LOAD:
	case SITE_STORE:
		vcpu->insn_rip = site_rip(vcpu, site);
		code = site->kind == SITE_LOAD ? mmu_load(vcpu, site) : mmu_store(vcpu, site);
		return code ? code : serve_fault(vcpu);
	case SITE_SEGMENT:
		vcpu->insn_rip = site_rip(vcpu, site);
		code = mmu_segment(vcpu, site);
		return code ? code : serve_fault(vcpu);
	case SITE_COMMIT:
		if (mmu_commit(vcpu) && !(site->flags & SITE_KEEP))
			return go_on(vcpu, vcpu->ctx.page + site->offset);
		return ended(vcpu) ? NULL : site + 1;
	case SITE_CHECK:
		return check_access(vcpu, site) ? site + 1 : NULL;
	case SITE_LINK:
		return serve_link(vcpu, site);
	case SITE_JUMP:
		vcpu->stats.jump_misses++;
		/* What it came by is a block that was dropped. */
		if (site == &soft_jump_site)
			jump_forget(vcpu, vcpu->ctx.address);
		if (!segment_holds(vcpu, &vcpu->seg[CS], vcpu->ctx.address)) {
			/* It is the jump that faults: what it did to the stack has not been. */
			vcpu->ctx.gpr[RSP] += site->arg;
			vcpu->insn_rip = site_rip(vcpu, site);
			return serve_raise(vcpu, VECTOR_GP);
		}
		vcpu->ctx.rip = vcpu->ctx.address;
		return next_code(vcpu);
	case SITE_GO:
		return go_on(vcpu, vcpu->ctx.page + site->offset);
	case SITE_INSN:
		return serve_insn(vcpu, site);
	case SITE_RAISE:
		vcpu->insn_rip = site_rip(vcpu, site);
		return serve_raise(vcpu, site->arg);
	case SITE_TRAP:
		vcpu->insn_rip = vcpu_rip(vcpu, vcpu->ctx.page + vcpu->trap.offset);
		if (vcpu->trap.vector == VECTOR_XM && !(vcpu->cr4 & X86_CR4_OSXMMEXCPT))
			return serve_raise(vcpu, VECTOR_UD);
		return serve_raise(vcpu, vcpu->trap.vector);
	}
	__builtin_unreachable();
}

const void *soft_event(struct vcpu *vcpu, const struct site *site)
{
	bool timed = vcpu->soft->options.soft_stats;
	u64 began = timed ? clock_tsc() : 0;
	const void *code = serve(vcpu, site);

	if (code && vcpu->vectors_saved)
		vectors_restore(vcpu);
	if (timed)
		vcpu->stats.ticks_helping += clock_tsc() - began;
	return code;
}

/* ------------------------------------------------------------------ signals */

/* Which vCPU this thread is, for signal handlers. */
static __thread struct vcpu *current;

/* What the launcher has for signals that are not ours. Written once. */
static struct sigaction old_actions[NSIG];

static void on_kick(int signal)
{
	(void)signal;
	if (current)
		vcpu_kick(current, POLL_INTERRUPT);
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *old = &old_actions[signal];

	if (old->sa_flags & SA_SIGINFO)
		old->sa_sigaction(signal, info, context);
	else
		sigaction(signal, old, NULL); /* and the trap comes again */
}

_Static_assert(SITE_JUMP == ENTER_SITE_JUMP && sizeof(struct site) == 16, "enter.S knows both");

static const struct site trap_site = {.kind = SITE_TRAP};

/*
 * What translated code does may trap on the host: then the guest's instruction did.
 *
 * Tour 6.74: Traps of the host are the guest's
 */
static void on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	greg_t *regs = user->uc_mcontext.gregs;
	const u8 *pc = (const u8 *)regs[REG_RIP];
	struct block *block = NULL;
	unsigned i;

	if (current && pc >= current->cache->run && pc < current->cache->run + current->cache->size)
		block = cache_block_at(current->cache, pc);
	if (!block || !block->marks || regs[REG_TRAPNO] == VECTOR_PF || info->si_code == SI_USER ||
	    info->si_code == SI_TKILL) {
		pass_on(signal, info, context);
		return;
	}
	for (i = block->marks - 1; i && block->mark[i].host > pc - block->code; i--)
		;
	current->trap.vector = regs[REG_TRAPNO];
	current->trap.offset = block->offset + block->mark[i].guest;
	current->ctx.spare[0] = (u64)&trap_site;
	regs[REG_RIP] = (greg_t)soft_trap_stub;
}

static void catch_signals(void)
{
	static const int traps[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
	struct sigaction kick = {.sa_handler = on_kick}, trap = {.sa_sigaction = on_trap};
	sigset_t set;

	trap.sa_flags = SA_SIGINFO;
	sigaction(ENGINE_SIGNAL, &kick, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(traps); i++) {
		struct sigaction old;

		sigaction(traps[i], NULL, &old);
		if (old.sa_flags & SA_SIGINFO && old.sa_sigaction == on_trap)
			continue;
		/* First this: another thread may trap as soon as the handler is there. */
		old_actions[traps[i]] = old;
		sigaction(traps[i], &trap, NULL);
	}
	sigemptyset(&set);
	sigaddset(&set, ENGINE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static bool make_timer(struct vcpu *vcpu)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = ENGINE_SIGNAL};
	int tid = syscall(SYS_gettid);

	event._sigev_un._tid = tid;
	if (timer_create(CLOCK_MONOTONIC, &event, &vcpu->timer))
		return false;
	vcpu->tid = tid;
	return true;
}

/*
 * The thread of a vCPU. There is one soft_enter() in it: what goes in there comes out again
 * when the machine has ended.
 *
 * Tour 6.75: The life of a vCPU thread
 */
void soft_vcpu_run(struct vcpu *vcpu)
{
	struct machine *machine = vcpu->soft->engine.board->machine;
	u64 began = clock_tsc();
	const void *code;

	current = vcpu;
	catch_signals();
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, &vcpu->ctx) || !make_timer(vcpu)) {
		machine_stop(machine, EXIT_LAUNCHER, "vCPU %u: cannot have a timer: %s",
			     vcpu->index, strerror(errno));
		return;
	}
	vcpu->leave = false;
	check_prepare(vcpu);
	debugger_enter(vcpu);
	vcpu_resume(vcpu);
	/* The first look at the clock arms what was set before there was a timer. */
	vcpu_kick(vcpu, POLL_INTERRUPT);
	code = next_code(vcpu);
	vcpu->stats.ticks_helping += clock_tsc() - began;
	if (code) {
		vectors_restore(vcpu);
		soft_enter(code);
		vectors_save(vcpu);
	}
	/* The checking build may end the machine in the middle of an instruction. */
	vcpu_let_others_run(vcpu);
	vcpu_rest(vcpu);
	debugger_leave(vcpu);
	vcpu->tid = 0;
	timer_delete(vcpu->timer);
	vcpu->stats.ticks_total += clock_tsc() - began;
	current = NULL;
}
