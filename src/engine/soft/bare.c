/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * User code that computes much and calls the kernel little does not need a translator: the host's
 * processor can run it as it is, if only it sees the guest's pages where the guest has them. That
 * is what cells are for (cell.h). This file decides when, maps the pages, and takes the registers
 * there and back.
 *
 * The translator stays in charge. Whatever the cell stops at, the translator executes: the system
 * call, the instruction that wants a page. So nothing about faults, accessed and dirty bits, or
 * exceptions is known here. What is mapped into a cell is what the translator has found out about
 * the guest's page tables, by the same rules as an entry of the TLB: a page that is not dirty may
 * not be written, a page with code of ours may not be written, and what the guest invalidates goes.
 * Pages whose code would see another processor here than there (XGETBV, LSL) are not run here.
 *
 * Going there and back takes microseconds, so it is for those who stay for a while: a user who is
 * interrupted by the clock is tried, and one that comes back at once, again and again, is left to
 * the translator for some time.
 *
 * Tour 6.1010
 */
#include "engine/soft/fpu.h"
#include "engine/soft/paging.h"
#include "engine/soft/system.h"
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

#include <Zydis/Zydis.h>
#include <string.h>
#include <sys/mman.h>

/* Linux's selectors for users, whose registers the cell has. */
#define USER_CS	  0x33
#define USER_SS	  0x2b
#define COMPAT_CS 0x23

/* Flags that a user can change; and those that a signal's frame restores. */
#define FLAGS_SEEN (FLAGS_USER | X86_EFLAGS_ID | X86_EFLAGS_NT)
#define FLAGS_USER (FLAGS_ARITH | X86_EFLAGS_DF | X86_EFLAGS_AC | X86_EFLAGS_TF)

/* ------------------------------------------------------------------ may it run here? */

static bool is_possible(const struct vcpu *vcpu)
{
	const u32 without =
		MODE_NO_FPU | MODE_NO_SSE | MODE_NO_AVX | MODE_ALIGN | MODE_NO_MMX | MODE_NO_WAIT;

	return (vcpu->mode & (MODE_VIEW | MODE_CODE)) == VIEW_USER && !(vcpu->mode & without) &&
	       !(fpu_avx512_components(vcpu) && vcpu->mode & MODE_NO_AVX512) &&
	       vcpu->seg[CS].selector == USER_CS && vcpu->seg[SS].selector == USER_SS &&
	       vcpu->cr4 & X86_CR4_FSGSBASE &&
	       !(vcpu->seg[ES].selector | vcpu->seg[DS].selector | vcpu->seg[FS].selector |
		 vcpu->seg[GS].selector) &&
	       vcpu->ctx.intflag && vcpu->cr0 & X86_CR0_PG && !vcpu->watch.armed &&
	       !(vcpu->sysflags &
		 (X86_EFLAGS_TF | X86_EFLAGS_ID | X86_EFLAGS_IOPL | X86_EFLAGS_NT)) &&
	       !(vcpu->cr4 & X86_CR4_PKE && vcpu->pkru & 3);
}

/* ------------------------------------------------------------------ does it pay? */

/*
 * What is done here takes the translator longer, by half of it at least; but a stop costs, and so
 * does each order to the mapper. Who has lost more than he gained is left to the translator for
 * some ticks of his clock, and for longer the next time. The longer, the more he may lose before he
 * gains: a program whose pages are many loses until they are there.
 */
#define STOP_NS	    12000
#define ORDER_NS    2000
#define SIGNAL_NS   4000 /* of the cell's time: the kernel's, not the guest's */
#define START_NS    2000000
#define RETRY_NS    150000 /* for each tick: of 4 ms, mostly */
#define RICH_NS	    20000000
#define LONG_NS	    2000000
#define BACKOFF_MAX 64

static void give_up(struct vcpu *vcpu)
{
	struct bare_case *bare = &vcpu->current_space->bare;

	bare->wanted = false;
	bare->ticks = 0;
	bare->backoff = MIN(bare->backoff * 2, BACKOFF_MAX);
	vcpu->stats.bare_given_up++;
}

static void account(struct vcpu *vcpu, u64 ns)
{
	struct bare_case *bare = &vcpu->current_space->bare;
	s64 gained = ns > SIGNAL_NS ? (ns - SIGNAL_NS) / 2 : 0;

	bare->balance += gained - STOP_NS - (s64)vcpu->bare.orders * ORDER_NS;
	bare->balance = MIN(bare->balance, RICH_NS);
	vcpu->bare.orders = 0;
	if (ns > LONG_NS)
		bare->backoff = 1;
	if (bare->balance <= 0 && !(vcpu->soft->options.soft_without & WITHOUT_DOUBT))
		give_up(vcpu);
}

/* ------------------------------------------------------------------ pages */

static bool is_stubs(u64 address)
{
	return address >= CELL_BASE && address < CELL_END;
}

/* Nothing is mapped there: the stub is, or the last page of all, which the host gives nobody. */
static bool is_outside(u64 address)
{
	return address < CELL_USER_BEGIN || address >= CELL_USER_END || is_stubs(address);
}

static unsigned slot_of(u64 window)
{
	return window % BARE_WINDOWS;
}

static void forget_all(struct vcpu *vcpu)
{
	struct bare *bare = &vcpu->bare;

	vcpu->stats.bare_empties++;
	cell_empty(bare->cell);
	bare->orders += 2;
	for (unsigned i = 0; i < BARE_WINDOWS; i++)
		bare->windows[i].window = bare->windows[i].mapped = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(bare->given); i++)
		bare->given[i] = 0;
	bare->stale = bare->large = false;
}

void bare_forget_page(struct vcpu *vcpu, u64 address)
{
	struct bare *bare = &vcpu->bare;
	u64 window = address / PAGE_SIZE / BARE_WINDOW;

	if (!cell_works(bare->cell) || bare->stale)
		return;
	/* Of a large page one address is named, and all of it is meant. */
	if (bare->large || bare->cell->count > CELL_ORDERS / 2) {
		bare->stale = true;
		return;
	}
	if (!is_outside(address))
		cell_unmap(bare->cell, align_down(address, PAGE_SIZE), PAGE_SIZE);
	if (bare->windows[slot_of(window)].window == window)
		bare->windows[slot_of(window)].mapped &=
			~(1ull << address / PAGE_SIZE % BARE_WINDOW);
}

static u64 *given_word(struct bare *bare, u64 gpa)
{
	return &bare->given[gpa / PAGE_SIZE % (1u << BARE_GIVEN_BITS) / 64];
}

static u64 given_bit(u64 gpa)
{
	return 1ull << gpa / PAGE_SIZE % 64;
}

/*
 * At which addresses the guest has that page is not known, so all of them go; but most pages that
 * get code, or lose it, have no such rights in the cell.
 */
void bare_forget_rights(struct vcpu *vcpu, u64 gpa)
{
	vcpu->bare.stale |= !!(*given_word(&vcpu->bare, gpa) & given_bit(gpa));
}

/* The page of RAM that the guest has at that address; NULL: none. */
static const u8 *page_at(struct vcpu *vcpu, u64 address)
{
	struct mapping mapping;

	return paging_look(vcpu, address, &mapping) ? ram_at(vcpu->soft, mapping.gpa) : NULL;
}

/*
 * What about the code of the page at that address, which is there in RAM? What the pages beside it
 * say is looked at once: a program that changes them afterwards, and not the page itself, so that
 * an instruction goes across that tells of the host, may find out where it is.
 */
static enum bare_code code_of(struct vcpu *vcpu, u64 address, u64 gpa)
{
	enum bare_code code = cache_bare_code(vcpu, gpa);

	if (code != BARE_CODE_DEPENDS)
		return code;
	return page_edges_tell(page_at(vcpu, address - PAGE_SIZE), ram_at(vcpu->soft, gpa),
			       page_at(vcpu, address + PAGE_SIZE), !vcpu->bare.cell->cpuid_faults)
		       ? BARE_CODE_REFUSED
		       : BARE_CODE_FINE;
}

/* What a page that the guest has, and has accessed, may be here: PROT_*, 0: nothing. */
static int protection_of(struct vcpu *vcpu, u64 address, const struct mapping *mapping)
{
	int protection = PROT_READ;

	if (mapping->flags >> TLB_KEY_SHIFT || !ram_at(vcpu->soft, mapping->gpa) ||
	    !paging_allowed(vcpu, ACCESS_READ, mapping->rights))
		return 0;
	if (mapping->leaf & PTE_DIRTY && paging_allowed(vcpu, ACCESS_WRITE, mapping->rights) &&
	    page_allow_writing(vcpu, mapping->gpa))
		protection |= PROT_WRITE;
	else if (paging_allowed(vcpu, ACCESS_FETCH, mapping->rights) &&
		 code_of(vcpu, address, mapping->gpa) == BARE_CODE_FINE)
		protection |= PROT_EXEC;
	return protection;
}

/* Neighbours that are neighbours in RAM, too, come in one order. */
struct run {
	u64 address, gpa, length;
	int protection;
};

static void map_run(struct vcpu *vcpu, struct run *run)
{
	if (run->length)
		cell_map(vcpu->bare.cell, run->address, run->length, run->gpa, run->protection);
	vcpu->bare.orders += !!run->length;
	vcpu->stats.bare_maps += !!run->length;
	run->length = 0;
}

static void add_to_run(struct vcpu *vcpu, struct run *run, u64 address, u64 gpa, int protection)
{
	if (run->length && run->address + run->length == address && run->gpa + run->length == gpa &&
	    run->protection == protection) {
		run->length += PAGE_SIZE;
		return;
	}
	map_run(vcpu, run);
	*run = (struct run){address, gpa, PAGE_SIZE, protection};
}

/*
 * The page at that address, and what is around it, as far as the guest has used it.
 *
 * Tour 6.1011: Pages for the cell
 */
static void map_around(struct vcpu *vcpu, u64 address)
{
	struct bare *bare = &vcpu->bare;
	u64 window = address / PAGE_SIZE / BARE_WINDOW, first = window * BARE_WINDOW * PAGE_SIZE;
	typeof(bare->windows[0]) *known = &bare->windows[slot_of(window)];
	struct run run = {0};

	if (is_outside(address))
		return;
	if (known->window != window) {
		known->window = window;
		known->mapped = 0;
	}
	for (unsigned i = 0; i < BARE_WINDOW; i++) {
		u64 page = first + i * PAGE_SIZE;
		struct mapping mapping;
		int protection;

		if ((known->mapped >> i & 1 && page != align_down(address, PAGE_SIZE)) ||
		    is_outside(page) || !paging_look(vcpu, page, &mapping))
			continue;
		protection = protection_of(vcpu, page, &mapping);
		if (!protection)
			continue;
		if (protection & (PROT_WRITE | PROT_EXEC))
			*given_word(bare, mapping.gpa) |= given_bit(mapping.gpa);
		bare->large |= !!(mapping.flags & TLB_LARGE);
		add_to_run(vcpu, &run, page, mapping.gpa, protection);
		known->mapped |= 1ull << i;
	}
	map_run(vcpu, &run);
}

/*
 * Has the guest anything where the stub is, be it that it has not used it of late? What it has not
 * used at all nobody knows of: a program that has its memory there, and uses it first in the cell,
 * comes upon the stub's.
 */
static bool is_in_the_way(const struct vcpu *vcpu)
{
	u64 gpa;

	for (u64 page = CELL_BASE; page < CELL_END; page += PAGE_SIZE)
		if (paging_peek(vcpu, page, &gpa))
			return true;
	return false;
}

/* The cell has what was mapped for this address space, and no other. */
static bool prepare_pages(struct vcpu *vcpu)
{
	struct bare *bare = &vcpu->bare;
	const struct address_space *space = vcpu->current_space;

	if (is_in_the_way(vcpu)) {
		bare->stale = true;
		give_up(vcpu);
		return false;
	}
	if (bare->stale || bare->space != space || bare->version != space->lookup.version)
		forget_all(vcpu);
	bare->space = space;
	bare->version = space->lookup.version;
	if (bare->fault)
		map_around(vcpu, bare->fault);
	bare->fault = 0;
	if (cell_prepare(bare->cell))
		return true;
	/* It wants more pieces than the host gives a process. Once more, but not at once. */
	bare->stale = true;
	give_up(vcpu);
	return false;
}

/* What about the page that the next instruction is in? */
static enum bare_code next_code(struct vcpu *vcpu)
{
	struct mapping mapping;

	if (!paging_look(vcpu, vcpu->ctx.rip, &mapping) || !ram_at(vcpu->soft, mapping.gpa))
		return BARE_CODE_UNKNOWN;
	return code_of(vcpu, align_down(vcpu->ctx.rip, PAGE_SIZE),
		       align_down(mapping.gpa, PAGE_SIZE));
}

/* ------------------------------------------------------------------ registers */

/* In the order of ours. */
static const u8 frame_register[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8,	 REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

/* What the kernel has put between the FXSAVE image and the header says how the frame is made. */
#define FRAME_RESERVED 464

static void copy_vectors(const struct vcpu *vcpu, u8 *to, const u8 *from)
{
	const u64 ours = COMPONENTS_ALWAYS | fpu_avx512_components(vcpu);
	u64 theirs = ((const struct image *)(const void *)to)->xstate_bv;
	struct image *image = (struct image *)(void *)to;

	fpu_copy(to, from, FRAME_RESERVED);
	fpu_copy(to + FXSAVE_SIZE, from + FXSAVE_SIZE, vcpu->bare.cell->vectors_size - FXSAVE_SIZE);
	image->xstate_bv = (theirs & ~ours) | (image->xstate_bv & ours);
	image->xcomp_bv = 0;
	/* The guest may have made the frame up, and XRSTOR faults if these are not 0. */
	fpu_clear(image->header, sizeof(image->header));
}

static void put_registers(struct vcpu *vcpu)
{
	struct cell *cell = vcpu->bare.cell;
	greg_t *regs = cell->context->uc_mcontext.gregs;

	for (unsigned i = 0; i < 16; i++)
		regs[frame_register[i]] = vcpu->ctx.gpr[i];
	regs[REG_RIP] = vcpu->ctx.rip;
	regs[REG_EFL] = (vcpu_rflags(vcpu) & FLAGS_USER) | X86_EFLAGS_FIXED | X86_EFLAGS_IF;
	copy_vectors(vcpu, cell->vectors, vcpu->xsave);
}

/* A stub's word, which the guest may have written. */
static u64 canonical(u64 address)
{
	return (s64)(address << 16) >> 16;
}

static void take_registers(struct vcpu *vcpu)
{
	struct cell *cell = vcpu->bare.cell;
	const greg_t *regs = cell->context->uc_mcontext.gregs;
	u64 flags = regs[REG_EFL];

	for (unsigned i = 0; i < 16; i++)
		vcpu->ctx.gpr[i] = regs[frame_register[i]];
	vcpu->ctx.rip = regs[REG_RIP];
	vcpu->ctx.base[FS] = canonical(cell_fs(cell));
	vcpu->ctx.base[GS] = canonical(cell_gs(cell));
	copy_vectors(vcpu, vcpu->xsave, cell->vectors);
	((struct image *)(void *)vcpu->xsave)->mxcsr &= 0xffff;
	vcpu_set_rflags(vcpu, (vcpu_rflags(vcpu) & ~(u64)FLAGS_SEEN) | (flags & FLAGS_SEEN));
	/* A far jump: the same selectors mean the same here and there. */
	if ((u16)regs[REG_CSGSFS] == COMPAT_CS) {
		struct segment code = vcpu->seg[CS];

		code.selector = COMPAT_CS;
		code.limit = ~0u;
		code.l = 0;
		code.db = 1;
		vcpu_set_segment(vcpu, CS, &code);
		vcpu_update_mode(vcpu);
	}
}

/* ------------------------------------------------------------------ stops */

/* The signal is about an instruction of so many bytes that is over. */
static void step_back(struct vcpu *vcpu, unsigned length)
{
	vcpu->ctx.rip -= length;
	vcpu->bare.alone = true;
}

/* INT3 and INT1 have one byte; INT 3 can be said in two. */
static void take_trap(struct vcpu *vcpu, const siginfo_t *info)
{
	u8 byte = 0;

	/* TF may be gone by now: it was there when the instruction began. */
	if (info->si_code == TRAP_TRACE) {
		vcpu->stepping = true;
		return;
	}
	if (!mem_read(vcpu, vcpu->ctx.rip - 1, &byte, 1, ACCESS_FETCH))
		vcpu->exception.pending = false;
	step_back(vcpu, byte == 0xcc || byte == 0xf1 ? 1 : 2);
}

/* SYSCALL and INT 80 have two bytes; and a host with vsyscalls has returned from one already. */
static void take_call(struct vcpu *vcpu, const siginfo_t *info)
{
	if ((s64)info->si_call_addr >= 0) {
		step_back(vcpu, 2);
		return;
	}
	vcpu->ctx.rip = (u64)info->si_call_addr;
	vcpu->ctx.gpr[RSP] -= 8;
	vcpu->bare.alone = true;
}

/* What the cell stopped at, the translator executes. */
static void take_stop(struct vcpu *vcpu)
{
	struct bare *bare = &vcpu->bare;
	const siginfo_t *info = bare->cell->info;
	u64 trap;

	switch (bare->cell->signal) {
	case SIGURG:
		break;
	case SIGSYS:
		take_call(vcpu, info);
		break;
	case SIGTRAP:
		take_trap(vcpu, info);
		break;
	case SIGSEGV:
		trap = bare->cell->context->uc_mcontext.gregs[REG_TRAPNO];
		/* INT 4 is a trap, and all else here a fault. */
		step_back(vcpu, trap == VECTOR_OF ? 2 : 0);
		if (info->si_code != SEGV_MAPERR && info->si_code != SEGV_ACCERR)
			break;
		bare->fault = (u64)info->si_addr;
		bare->fault_code = bare->fault - vcpu->ctx.rip < ZYDIS_MAX_INSTRUCTION_LENGTH;
		break;
	default:
		bare->alone = true;
	}
}

static void count_stop(struct vcpu *vcpu, u64 ticks)
{
	struct bare *bare = &vcpu->bare;

	vcpu->stats.bare_runs++;
	vcpu->stats.ticks_bare += ticks;
	vcpu->stats.bare_faults += bare->fault != 0;
	vcpu->stats.bare_calls += bare->cell->signal == SIGSYS;
	vcpu->stats.bare_kicks += bare->cell->signal == SIGURG;
}

/* ------------------------------------------------------------------ what the run loop asks */

void bare_sample(struct vcpu *vcpu)
{
	struct bare_case *bare = &vcpu->current_space->bare;

	if (!cell_works(vcpu->bare.cell) || bare->wanted || !is_possible(vcpu) ||
	    ++bare->ticks < bare->backoff)
		return;
	bare->wanted = true;
	bare->balance = bare->backoff == 1 ? START_NS : RETRY_NS * bare->backoff;
	/* From now on each way to the user's code leads through bare_run(). */
	jump_cache_flush(vcpu->ctx.user);
}

static void lose(struct vcpu *vcpu)
{
	/* Its registers are gone with it. As far as the guest can tell its program did that, so it
	 * gets the fault. */
	raise_error(vcpu, VECTOR_GP, 0);
}

/*
 * The user's code, in the cell, until it stops at something. What it stopped at is the
 * translator's: BARE_RAN says that registers and rip are what they were there (or that a fault is
 * due), BARE_ALONE that one instruction has to be translated before it can go on, BARE_NOT that
 * this is not for the cell.
 *
 * Tour 6.1012: There and back
 */
enum bare_result bare_run(struct vcpu *vcpu)
{
	struct bare *bare = &vcpu->bare;
	enum bare_code code;
	u64 began;
	bool ran;

	if (bare->alone) {
		bare->alone = false;
		return BARE_ALONE;
	}
	if (!is_possible(vcpu)) {
		give_up(vcpu);
		return BARE_NOT;
	}
	/*
	 * A guest's program has its first page only when it is used. There the stub is, so this may
	 * be how we hear of it: of the stub in a cell of an lguest that is in the guest, say.
	 */
	if (is_stubs(vcpu->ctx.rip)) {
		bare->stale = true;
		give_up(vcpu);
		return BARE_NOT;
	}
	vectors_save(vcpu);
	/*
	 * It could not be fetched. The translator knows more when it has run it; but if it must not
	 * run here, the translator has what follows, too, until somebody asks again.
	 */
	code = bare->fault_code ? next_code(vcpu) : BARE_CODE_FINE;
	if (code == BARE_CODE_REFUSED) {
		bare->fault = 0;
		bare->fault_code = false;
		account(vcpu, 0);
		return BARE_NOT;
	}
	if (code == BARE_CODE_UNKNOWN)
		return BARE_ALONE;
	if (!prepare_pages(vcpu))
		return BARE_NOT;
	put_registers(vcpu);
	atomic_store(&bare->inside, true);
	if (atomic_load(&vcpu->ctx.poll)) {
		atomic_store(&bare->inside, false);
		return BARE_RAN;
	}
	vcpu->shadow = SHADOW_NONE;
	began = clock_tsc();
	ran = cell_run(bare->cell, vcpu->ctx.base[FS], vcpu->ctx.base[GS]);
	atomic_store(&bare->inside, false);
	if (!ran) {
		lose(vcpu);
		return BARE_RAN;
	}
	take_registers(vcpu);
	take_stop(vcpu);
	count_stop(vcpu, clock_tsc() - began);
	account(vcpu, bare->cell->spent);
	return BARE_RAN;
}
