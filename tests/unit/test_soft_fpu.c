/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the soft engine does with vector and x87 state, against this machine's CPU.
 *
 * The same random state is loaded into the CPU and into a vCPU; the CPU executes the
 * instruction on its pages, the handler works on its own. Afterwards the whole
 * state, the memory and the fault are the same, but for the instruction and
 * data pointers: those must be 0.
 */
#include "soft_pages.h"

#include <Zydis/Mnemonic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <cmocka.h>

#define CASES	   2000u
#define COMPONENTS 7u
#define ALL_SIZE   (2 * (PAGES + 1) * PAGE_SIZE) /* pages, a hole, pages, code */

/* SDM volume 1, "XSAVE Area". */
struct image {
	u16 fcw, fsw;
	u8 ftw, reserved;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16], xmm[16][16];
	u8 unused[96];
	u64 xstate_bv, xcomp_bv, header[6];
	u8 ymm_high[16][16];
	u8 more[64]; /* to see that nothing comes here */
} __attribute__((aligned(64)));

/* What the CPU did. The handler of SIGSEGV finds it in rbx. */
struct stand {
	struct image state; /* before, and then after */
	u8 host[8192] __attribute__((aligned(64)));
	u64 rax, rdx, rdi;
	const u8 *code;
	const u8 *ret;
	bool faulted;
	u64 fault_address;
};

struct fixture {
	struct soft soft;
	struct fake *fake;
	struct stand *bare;
	u8 *arena, *guest; /* PAGES pages, of the CPU's and of the guest's */
	u8 *code;
	u64 random;
};

/* ------------------------------------------------------------------ what fpu.c calls */

bool raise_fault(struct vcpu *vcpu, enum vector vector)
{
	vcpu->exception.pending = true;
	vcpu->exception.vector = vector;
	vcpu->exception.has_error = false;
	return false;
}

bool raise_error(struct vcpu *vcpu, enum vector vector, u32 error)
{
	raise_fault(vcpu, vector);
	vcpu->exception.has_error = true;
	vcpu->exception.error = error;
	return false;
}

void mmu_set_pkru(struct vcpu *vcpu, u32 value)
{
	vcpu->pkru = value;
}

/* There are no limits, and every memory operand here is [rdi]. */
bool segment_access(struct vcpu *vcpu, unsigned which, u64 offset, unsigned length,
		    enum access access, u64 *linear)
{
	(void)length, (void)access;
	*linear = offset + vcpu->ctx.base[which];
	return true;
}

bool insn_access(struct vcpu *vcpu, const struct insn *insn, unsigned at, unsigned length,
		 enum access access, u64 *address)
{
	(void)insn, (void)length, (void)access;
	*address = vcpu->ctx.gpr[RDI] + at;
	return true;
}

/* ------------------------------------------------------------------ the machine's own */

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct stand *bare = (struct stand *)regs[REG_RBX];

	(void)signal;
	if ((const u8 *)regs[REG_RIP] != bare->code)
		_exit(99); /* not the instruction under test */
	bare->faulted = true;
	bare->fault_address = (u64)info->si_addr;
	regs[REG_RIP] = (greg_t)bare->ret;
}

static void run_bare(struct stand *bare)
{
	const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	/* In each test: cmocka has a handler of its own, which it sets up last. */
	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
	bare->faulted = false;
	asm volatile(
		"lea -128(%%rsp), %%rsp\n\t"
		"mov $-1, %%eax\n\t"
		"mov $-1, %%edx\n\t"
		"xsave64 %c[host](%%rbx)\n\t"
		"mov %[components], %%eax\n\t"
		"xor %%edx, %%edx\n\t"
		"xrstor64 %c[state](%%rbx)\n\t"
		"mov %c[rax](%%rbx), %%rax\n\t"
		"mov %c[rdx](%%rbx), %%rdx\n\t"
		"mov %c[rdi](%%rbx), %%rdi\n\t"
		"call *%c[code](%%rbx)\n\t"
		"mov %[components], %%eax\n\t"
		"xor %%edx, %%edx\n\t"
		"xsave64 %c[state](%%rbx)\n\t"
		"mov $-1, %%eax\n\t"
		"mov $-1, %%edx\n\t"
		"xrstor64 %c[host](%%rbx)\n\t"
		"lea 128(%%rsp), %%rsp"
		:
		: "b"(bare), [host] "i"(offsetof(struct stand, host)),
		  [state] "i"(offsetof(struct stand, state)),
		  [rax] "i"(offsetof(struct stand, rax)), [rdx] "i"(offsetof(struct stand, rdx)),
		  [rdi] "i"(offsetof(struct stand, rdi)), [code] "i"(offsetof(struct stand, code)),
		  [components] "i"(COMPONENTS)
		: "rax", "rdx", "rdi", "memory", "cc");
}

static void assemble(struct fixture *fixture, const void *code, unsigned length)
{
	memcpy(fixture->code, code, length);
	fixture->code[length] = 0xc3; /* ret */
	fixture->bare->code = fixture->code;
	fixture->bare->ret = fixture->code + length;
}

#define ASSEMBLE(fixture, ...)                                                                     \
	do {                                                                                       \
		const u8 bytes_[] = {__VA_ARGS__};                                                 \
		assemble(fixture, bytes_, sizeof bytes_);                                          \
	} while (0)

/* ------------------------------------------------------------------ set up */

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	struct vcpu *vcpu;
	u8 *at = mmap(NULL, ALL_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	assert_non_null(fixture);
	assert_ptr_not_equal(at, MAP_FAILED);
	fixture->arena = at;
	assert_int_equal(mprotect(at + PAGES * PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
	fixture->guest = at + (PAGES + 1) * PAGE_SIZE;
	fixture->code = at + ALL_SIZE - PAGE_SIZE;
	assert_int_equal(mprotect(fixture->code, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
	fixture->bare = aligned_alloc(64, sizeof *fixture->bare);
	assert_non_null(fixture->bare);
	memset(fixture->bare, 0, sizeof *fixture->bare);

	fixture->fake = fake_new((u64)fixture->arena);
	fixture->fake->before = vectors_save;
	vcpu = &fixture->fake->vcpu;
	vcpu->soft = &fixture->soft;
	fixture->soft.cpuid.xsave =
		(struct xsave_layout){.components = COMPONENTS, .offset[2] = 576, .length[2] = 256};
	vcpu->xsave = aligned_alloc(64, PAGE_SIZE);
	assert_non_null(vcpu->xsave);
	fpu_reset(vcpu);
	vcpu->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
	vcpu->xcr0 = COMPONENTS;
	fixture->random = 1;
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	munmap(fixture->arena, ALL_SIZE);
	free(fixture->fake->vcpu.xsave);
	free(fixture->fake);
	free(fixture->bare);
	free(fixture);
	return 0;
}

static void fill(struct fixture *fixture, void *at, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		((u8 *)at)[i] = next_random(&fixture->random);
}

/* The same bytes on both sides; some pages are missing if so wanted. */
static void map_random(struct fixture *fixture, unsigned missing)
{
	for (unsigned i = 0; i < PAGES; i++) {
		const bool there = !chance(&fixture->random, missing);
		u8 *at = fixture->arena + i * PAGE_SIZE;

		assert_int_equal(mprotect(at, PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
		fill(fixture, at, 64);
		fill(fixture, at + PAGE_SIZE - 64, 64);
		for (unsigned j = 64; j < PAGE_SIZE - 64; j += 8)
			memcpy(at + j, &fixture->random, 8);
		memcpy(fixture->guest + i * PAGE_SIZE, at, PAGE_SIZE);
		if (!there)
			assert_int_equal(mprotect(at, PAGE_SIZE, PROT_NONE), 0);
		fixture->fake->page[i] = (struct page){
			.host = fixture->guest + i * PAGE_SIZE,
			.readable = there,
			.writable = there,
			.direct = true,
		};
	}
}

/* An image that XRSTOR takes, with pointers that would show. */
static void random_image(struct fixture *fixture, struct image *image)
{
	fill(fixture, image, sizeof *image);
	image->reserved = 0;
	image->fop &= 0x7ff;
	image->fip = 0x7f1234567890;
	image->fdp = 0x7f0987654321;
	image->mxcsr &= 0xffff;
	if (chance(&fixture->random, 30))
		image->mxcsr = 0x1f80;
	image->xstate_bv = chance(&fixture->random, 50)
				   ? COMPONENTS
				   : next_random(&fixture->random) & COMPONENTS;
	image->xcomp_bv = 0;
	memset(image->header, 0, sizeof image->header);
}

/* The same state for both. */
static void random_state(struct fixture *fixture)
{
	struct vcpu *vcpu = &fixture->fake->vcpu;

	random_image(fixture, &fixture->bare->state);
	memcpy(vcpu->xsave, &fixture->bare->state, sizeof fixture->bare->state);
	vcpu->vectors_saved = true;
}

/* ------------------------------------------------------------------ one case */

/* As from translated code, and back there: the guest's state comes from the host's registers. */
static bool run_live(struct vcpu *vcpu, handler *execute, const struct insn *insn)
{
	bool done;

	vcpu->exception.pending = false;
	vectors_restore(vcpu);
	done = execute(vcpu, insn);
	vectors_restore(vcpu);
	vectors_save(vcpu);
	return done;
}

static void hide_pointers(struct image *image)
{
	image->fop = 0;
	image->fip = 0;
	image->fdp = 0;
}

static void assert_same_state(struct fixture *fixture)
{
	struct image *bare = &fixture->bare->state;
	struct image guest;

	memcpy(&guest, fixture->fake->vcpu.xsave, sizeof guest);
	hide_pointers(&guest); /* in the vCPU's own image they may be anything */
	hide_pointers(bare);
	assert_memory_equal(&guest, bare, offsetof(struct image, unused));
	assert_memory_equal(guest.ymm_high, bare->ymm_high, sizeof guest.ymm_high);
}

/* Registers are in `bare` and [rdi] is the operand; true: done, false: both faulted. */
static bool run_both(struct fixture *fixture, handler *execute, const struct insn *insn)
{
	struct fake *fake = fixture->fake;
	struct stand *bare = fixture->bare;
	bool done;

	fake->faulted = false;
	fake->vcpu.ctx.gpr[RAX] = bare->rax;
	fake->vcpu.ctx.gpr[RDX] = bare->rdx;
	fake->vcpu.ctx.gpr[RDI] = bare->rdi;
	run_bare(bare);
	done = run_live(&fake->vcpu, execute, insn);
	assert_int_equal(done, !bare->faulted);
	return done;
}

static bool all_zero(const void *at, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		if (((const u8 *)at)[i])
			return false;
	return true;
}

/*
 * A component whose bit is clear must be in its initial state. When one that is has its bit clear,
 * is the CPU's affair, and that of whoever ran on it meanwhile: so we cannot ask for the same bits.
 */
static void assert_in_use(const struct image *image, u64 xstate_bv)
{
	if (!(xstate_bv & 1)) {
		assert_int_equal(image->fcw, 0x37f);
		assert_int_equal(image->fsw, 0);
		assert_int_equal(image->ftw, 0);
		assert_true(all_zero(image->st, sizeof image->st));
	}
	if (!(xstate_bv & 2)) /* MXCSR does not count */
		assert_true(all_zero(image->xmm, sizeof image->xmm));
	if (!(xstate_bv & 4))
		assert_true(all_zero(image->ymm_high, sizeof image->ymm_high));
}

static void assert_same_memory(struct fixture *fixture)
{
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(
			mprotect(fixture->arena + i * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE),
			0);
	assert_memory_equal(fixture->arena, fixture->guest, PAGES * PAGE_SIZE);
}

/*
 * Does the image in the arena go into the registers, or else nothing of it? The CPU is less strict
 * with itself: when it finds something wrong, a part may be loaded.
 */
static bool restore_both(struct fixture *fixture, handler *execute, const struct insn *insn)
{
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image before, after;

	memcpy(fixture->guest, fixture->arena, PAGE_SIZE);
	vectors_restore(vcpu);
	vectors_save(vcpu); /* now all of it is there, also what XSTATE_BV says is not */
	memcpy(&before, vcpu->xsave, sizeof before);
	if (run_both(fixture, execute, insn)) {
		assert_same_state(fixture);
		memcpy(&after, vcpu->xsave, sizeof after);
		assert_in_use(&after, after.xstate_bv);
		return true;
	}
	memcpy(&after, vcpu->xsave, sizeof after);
	hide_pointers(&before);
	hide_pointers(&after);
	assert_memory_equal(&before, &after, offsetof(struct image, more));
	assert_int_equal(vcpu->exception.vector, VECTOR_GP);
	assert_int_equal(vcpu->exception.error, 0);
	return false;
}

static const struct insn memory_insn = {.addrsize = 8, .segment = DS, .opsize = 4};

/* ------------------------------------------------------------------ images */

static void test_fxsave(void **state)
{
	struct fixture *fixture = *state;
	struct image *image = (struct image *)(void *)fixture->arena;

	ASSEMBLE(fixture, 0x48, 0x0f, 0xae, 0x07); /* fxsave64 [rdi] */
	fixture->bare->rdi = (u64)image;
	for (unsigned i = 0; i < CASES; i++) {
		map_random(fixture, 0);
		random_state(fixture);
		assert_true(run_both(fixture, fpu_fxsave, &memory_insn));
		assert_same_state(fixture);
		hide_pointers(image);
		assert_same_memory(fixture);
	}
}

static void test_xsave(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image *image = (struct image *)(void *)fixture->arena;
	struct image *guest = (struct image *)(void *)fixture->guest;
	const struct image *saved = (struct image *)(void *)vcpu->xsave;

	ASSEMBLE(fixture, 0x48, 0x0f, 0xae, 0x27); /* xsave64 [rdi] */
	fixture->bare->rdi = (u64)image;
	for (unsigned i = 0; i < CASES; i++) {
		const u64 mask = next_random(&fixture->random) & COMPONENTS;
		u64 old;

		map_random(fixture, 0);
		random_state(fixture);
		old = guest->xstate_bv;
		fixture->bare->rdx = 0;
		fixture->bare->rax = mask;
		assert_true(run_both(fixture, fpu_xsave, &memory_insn));
		assert_same_state(fixture);
		if (mask & 1)
			hide_pointers(image);
		assert_int_equal(guest->xstate_bv & ~mask, old & ~mask);
		assert_in_use(saved, guest->xstate_bv | ~mask);
		image->xstate_bv = guest->xstate_bv;
		assert_same_memory(fixture);
	}
}

/* A fault on the second page leaves the first alone. */
static void test_xsave_faults(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;

	map_random(fixture, 0);
	random_state(fixture);
	fixture->fake->page[1].writable = false;
	vcpu->ctx.gpr[RAX] = COMPONENTS;
	vcpu->ctx.gpr[RDX] = 0;
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena + PAGE_SIZE - 640;
	assert_false(run_live(vcpu, fpu_xsave, &memory_insn));
	assert_int_equal(fixture->fake->fault_address, fixture->arena + PAGE_SIZE);
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena + PAGE_SIZE - 448;
	assert_false(run_live(vcpu, fpu_fxsave, &memory_insn));
	assert_int_equal(fixture->fake->fault_address, fixture->arena + PAGE_SIZE);
	assert_memory_equal(fixture->arena, fixture->guest, PAGES * PAGE_SIZE);
}

/* Some state, and an image of another, which the CPU takes, mostly. */
static void random_restore(struct fixture *fixture, struct image *image)
{
	map_random(fixture, 0);
	random_state(fixture);
	random_image(fixture, image);
	if (chance(&fixture->random, 5))
		image->mxcsr |= 1u << (16 + below(&fixture->random, 16));
}

static void test_fxrstor(void **state)
{
	struct fixture *fixture = *state;
	struct image *image = (struct image *)(void *)fixture->arena;
	unsigned faults = 0;

	ASSEMBLE(fixture, 0x48, 0x0f, 0xae, 0x0f); /* fxrstor64 [rdi] */
	fixture->bare->rdi = (u64)image;
	for (unsigned i = 0; i < CASES; i++) {
		random_restore(fixture, image);
		faults += !restore_both(fixture, fpu_fxrstor, &memory_insn);
	}
	assert_in_range(faults, 1, CASES / 2);
}

/* Anything may be in a header, and in MXCSR: what the CPU does not take, we do not. */
static void test_xrstor(void **state)
{
	struct fixture *fixture = *state;
	struct image *image = (struct image *)(void *)fixture->arena;
	unsigned faults = 0;

	ASSEMBLE(fixture, 0x48, 0x0f, 0xae, 0x2f); /* xrstor64 [rdi] */
	fixture->bare->rdi = (u64)image;
	for (unsigned i = 0; i < CASES; i++) {
		random_restore(fixture, image);
		if (chance(&fixture->random, 3)) /* those that no host has */
			image->xstate_bv |= 1ull << (32 + below(&fixture->random, 32));
		if (chance(&fixture->random, 3)) /* but not bit 63: the host may have XSAVEC */
			image->xcomp_bv = 1ull << below(&fixture->random, 63);
		if (chance(&fixture->random, 5))
			image->header[0] = 1ull << below(&fixture->random, 64);
		fixture->bare->rdx = 0;
		fixture->bare->rax = next_random(&fixture->random) & COMPONENTS;
		faults += !restore_both(fixture, fpu_xrstor, &memory_insn);
	}
	assert_in_range(faults, 1, CASES / 2);

	/* The compacted form must have room for what it says to have; and XCR0 for all of it. */
	random_image(fixture, (struct image *)(void *)fixture->guest);
	((struct image *)(void *)fixture->guest)->xcomp_bv = 1ull << 63;
	((struct image *)(void *)fixture->guest)->xstate_bv = 2;
	assert_false(run_live(&fixture->fake->vcpu, fpu_xrstor, &memory_insn));
	((struct image *)(void *)fixture->guest)->xcomp_bv = 0;
	((struct image *)(void *)fixture->guest)->xstate_bv = 4;
	fixture->fake->vcpu.xcr0 = 3;
	assert_false(run_live(&fixture->fake->vcpu, fpu_xrstor, &memory_insn));
}

static void test_unaligned(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	handler *const handlers[] = {fpu_fxsave, fpu_fxrstor, fpu_xsave, fpu_xrstor};

	map_random(fixture, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(handlers); i++) {
		vcpu->ctx.gpr[RDI] = (u64)fixture->arena + (i < 2 ? 8 : 32);
		assert_false(run_live(vcpu, handlers[i], &memory_insn));
		assert_int_equal(vcpu->exception.vector, VECTOR_GP);
	}
	assert_memory_equal(fixture->arena, fixture->guest, PAGES * PAGE_SIZE);
}

static void check_environment(struct fixture *fixture, handler *execute, unsigned opsize)
{
	struct insn insn = memory_insn;

	insn.opsize = opsize;
	fixture->bare->rdi = (u64)fixture->arena + 3;
	for (unsigned i = 0; i < CASES / 4; i++) {
		map_random(fixture, 0);
		random_state(fixture);
		assert_true(run_both(fixture, execute, &insn));
		assert_same_state(fixture);
		if (opsize == 2)
			memset(fixture->arena + 3 + 6, 0, 8);
		else
			memset(fixture->arena + 3 + 12, 0, 14);
		assert_same_memory(fixture);
	}

	/* A fault leaves the registers alone, which both instructions would change. */
	random_state(fixture);
	fixture->fake->page[0].writable = false;
	ASSEMBLE(fixture, 0x90);
	run_bare(fixture->bare);
	assert_false(run_live(&fixture->fake->vcpu, execute, &insn));
	assert_same_state(fixture);
}

static void test_fnstenv(void **state)
{
	struct fixture *fixture = *state;

	ASSEMBLE(fixture, 0xd9, 0x37);
	check_environment(fixture, fpu_fnstenv, 4);
	ASSEMBLE(fixture, 0x66, 0xd9, 0x37);
	check_environment(fixture, fpu_fnstenv, 2);
}

static void test_fnsave(void **state)
{
	struct fixture *fixture = *state;

	ASSEMBLE(fixture, 0xdd, 0x37);
	check_environment(fixture, fpu_fnsave, 4);
	ASSEMBLE(fixture, 0x66, 0xdd, 0x37);
	check_environment(fixture, fpu_fnsave, 2);
}

/* ------------------------------------------------------------------ elements */

/* VEX, three bytes, 66; opcode map 2: 0F38, 1: 0F. SDM volume 2, "VEX Prefix". */
static unsigned vex(u8 *to, const struct insn *insn, bool w, unsigned map, bool x, bool b)
{
	to[0] = 0xc4;
	to[1] = (insn->reg < 8) << 7 | !x << 6 | !b << 5 | map;
	to[2] = w << 7 | (~insn->vvvv & 15) << 3 | (insn->vlen == 32) << 2 | 1;
	to[3] = insn->opcode;
	return 4;
}

/* Put the elements of the index register where the pages are, and around. */
static void aim_indices(struct fixture *fixture, const struct insn *insn)
{
	struct image *image = &fixture->bare->state;
	const unsigned size = insn->opcode & 1 ? 8 : 4;
	u8 *halves[2] = {image->xmm[insn->index], image->ymm_high[insn->index]};

	for (unsigned at = 0; at < 32; at += size) {
		s64 index = (s64)below(&fixture->random, PAGES * PAGE_SIZE) - PAGES / 2 * PAGE_SIZE;

		index /= insn->scale;
		memcpy(halves[at / 16] + at % 16, &index, size);
	}
	image->xstate_bv = COMPONENTS;
	memcpy(fixture->fake->vcpu.xsave, image, sizeof *image);
}

static void gather_case(struct fixture *fixture)
{
	static const u16 mnemonics[4][2] = {
		{ZYDIS_MNEMONIC_VPGATHERDD, ZYDIS_MNEMONIC_VPGATHERDQ},
		{ZYDIS_MNEMONIC_VPGATHERQD, ZYDIS_MNEMONIC_VPGATHERQQ},
		{ZYDIS_MNEMONIC_VGATHERDPS, ZYDIS_MNEMONIC_VGATHERDPD},
		{ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VGATHERQPD},
	};
	const unsigned which = below(&fixture->random, 4), wide = below(&fixture->random, 2);
	const unsigned scale_bits = below(&fixture->random, 4);
	struct insn insn = {
		.mnemonic = mnemonics[which][wide],
		.opcode = 0x90 + which,
		.addrsize = chance(&fixture->random, 50) ? 8 : 4,
		.segment = DS,
		.base = RDI,
		.displacement = (int32_t)next_random(&fixture->random),
		.scale = 1 << scale_bits,
		.vlen = 16 << below(&fixture->random, 2),
		.reg = below(&fixture->random, 16),
	};
	u8 code[16] = {0x67};
	unsigned length = insn.addrsize == 4;

	insn.vvvv = (insn.reg + 1 + below(&fixture->random, 7)) % 16;
	insn.index = (insn.reg + 8 + below(&fixture->random, 7)) % 16;
	length += vex(code + length, &insn, wide, 2, insn.index >= 8, false);
	code[length++] = 0x84 | (insn.reg & 7) << 3; /* disp32, and a SIB byte */
	code[length++] = scale_bits << 6 | (insn.index & 7) << 3 | RDI;
	memcpy(code + length, &insn.displacement, 4);
	length += 4;
	assemble(fixture, code, length);

	map_random(fixture, 8);
	random_state(fixture);
	aim_indices(fixture, &insn);
	fixture->bare->rdi = (u64)fixture->arena + PAGES / 2 * PAGE_SIZE - insn.displacement;
	if (insn.addrsize == 4) /* what is above does not count */
		fixture->bare->rdi ^= next_random(&fixture->random) << 32;
	if (!run_both(fixture, fpu_gather, &insn))
		assert_int_equal(fixture->fake->fault_address, fixture->bare->fault_address);
	assert_same_state(fixture);
}

static void test_gather(void **state)
{
	struct fixture *fixture = *state;
	const struct insn same = {.vlen = 16, .reg = 1, .vvvv = 2, .index = 2, .segment = DS};

	if (!__builtin_cpu_supports("avx2"))
		skip();
	for (unsigned i = 0; i < CASES; i++)
		gather_case(fixture);

	assert_false(run_live(&fixture->fake->vcpu, fpu_gather, &same));
	assert_int_equal(fixture->fake->vcpu.exception.vector, VECTOR_UD);
}

static void masked_case(struct fixture *fixture)
{
	static const struct {
		u16 mnemonic;
		u8 opcode;
		bool w;
	} forms[] = {
		{ZYDIS_MNEMONIC_VMASKMOVPS, 0x2c, false}, {ZYDIS_MNEMONIC_VMASKMOVPD, 0x2d, false},
		{ZYDIS_MNEMONIC_VMASKMOVPS, 0x2e, false}, {ZYDIS_MNEMONIC_VMASKMOVPD, 0x2f, false},
		{ZYDIS_MNEMONIC_VPMASKMOVD, 0x8c, false}, {ZYDIS_MNEMONIC_VPMASKMOVQ, 0x8c, true},
		{ZYDIS_MNEMONIC_VPMASKMOVD, 0x8e, false}, {ZYDIS_MNEMONIC_VPMASKMOVQ, 0x8e, true},
	};
	const unsigned which = below(&fixture->random, ARRAY_SIZE(forms));
	const struct insn insn = {
		.mnemonic = forms[which].mnemonic,
		.opcode = forms[which].opcode,
		.addrsize = 8,
		.segment = DS,
		.vlen = 16 << below(&fixture->random, 2),
		.reg = below(&fixture->random, 16),
		.vvvv = below(&fixture->random, 16),
	};
	u8 code[8];
	unsigned length = vex(code, &insn, forms[which].w, 2, false, false);

	code[length++] = (insn.reg & 7) << 3 | RDI;
	assemble(fixture, code, length);

	map_random(fixture, 30);
	random_state(fixture);
	fixture->bare->rdi = (u64)fixture->arena +
			     (1 + below(&fixture->random, PAGES - 2)) * PAGE_SIZE -
			     below(&fixture->random, 40);
	run_both(fixture, fpu_maskmov, &insn);
	assert_same_state(fixture);
	assert_same_memory(fixture);
}

static void test_masked(void **state)
{
	struct fixture *fixture = *state;

	if (!__builtin_cpu_supports("avx2"))
		skip();
	for (unsigned i = 0; i < CASES; i++)
		masked_case(fixture);
}

static void bytes_case(struct fixture *fixture, u16 mnemonic)
{
	struct insn insn = {
		.mnemonic = mnemonic,
		.opcode = 0xf7,
		.addrsize = 8,
		.segment = DS,
		.vlen = 16,
		.reg = below(&fixture->random, 16),
		.rm = below(&fixture->random, 16),
	};
	u8 code[8];
	unsigned length = 0;

	if (mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
		length = vex(code, &insn, false, 1, false, insn.rm >= 8);
	} else {
		if (mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU)
			code[length++] = 0x66;
		code[length++] = 0x40 | (insn.reg >= 8) << 2 | (insn.rm >= 8);
		code[length++] = 0x0f;
		code[length++] = insn.opcode;
	}
	code[length++] = 0xc0 | (insn.reg & 7) << 3 | (insn.rm & 7);
	assemble(fixture, code, length);

	/* No page is missing: the CPU may fault for bytes that are not wanted. */
	map_random(fixture, 0);
	random_state(fixture);
	fixture->bare->state.fcw |= 0x3f; /* nothing pending: see test_pending() */
	memcpy(fixture->fake->vcpu.xsave, &fixture->bare->state, 2);
	fixture->bare->rdi = (u64)fixture->arena +
			     (1 + below(&fixture->random, PAGES - 2)) * PAGE_SIZE -
			     below(&fixture->random, 20);
	assert_true(run_both(fixture, fpu_maskmov, &insn));
	assert_same_state(fixture);
	assert_same_memory(fixture);
}

static void test_bytes(void **state)
{
	for (unsigned i = 0; i < CASES / 2; i++) {
		bytes_case(*state, ZYDIS_MNEMONIC_MASKMOVDQU);
		bytes_case(*state, ZYDIS_MNEMONIC_MASKMOVQ);
		if (__builtin_cpu_supports("avx"))
			bytes_case(*state, ZYDIS_MNEMONIC_VMASKMOVDQU);
	}
}

/* Nothing is written until all of it can be; and a page that nothing goes to need not be there. */
static void test_bytes_fault(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image *image = (struct image *)(void *)vcpu->xsave;
	const struct insn insn = {.mnemonic = ZYDIS_MNEMONIC_MASKMOVDQU,
				  .addrsize = 8,
				  .segment = DS,
				  .reg = 1,
				  .rm = 2};

	map_random(fixture, 0);
	fixture->fake->page[1].writable = false;
	random_state(fixture);
	image->xstate_bv = COMPONENTS;
	memset(image->xmm[2], 0x80, 16);
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena + PAGE_SIZE - 8;
	assert_false(run_live(vcpu, fpu_maskmov, &insn));
	assert_int_equal(fixture->fake->fault_address, fixture->arena + PAGE_SIZE);
	assert_memory_equal(fixture->arena, fixture->guest, PAGES * PAGE_SIZE);

	memset(&image->xmm[2][8], 0x7f, 8);
	assert_true(run_live(vcpu, fpu_maskmov, &insn));
	assert_memory_equal(fixture->guest + PAGE_SIZE - 8, image->xmm[1], 8);
}

/* An x87 exception that waits is delivered by the next MMX instruction, before it does anything. */
static void test_pending(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image *image = (struct image *)(void *)vcpu->xsave;
	const struct insn maskmovq = {.mnemonic = ZYDIS_MNEMONIC_MASKMOVQ, .segment = DS};

	map_random(fixture, 0);
	random_state(fixture);
	image->xstate_bv = COMPONENTS;
	image->fcw = 0x37e; /* invalid operation is not masked, */
	image->fsw = 1;	    /* and happened */
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena;
	assert_false(run_live(vcpu, fpu_maskmov, &maskmovq));
	assert_int_equal(vcpu->exception.vector, VECTOR_MF);
	assert_memory_equal(fixture->arena, fixture->guest, PAGES * PAGE_SIZE);
}

/* ------------------------------------------------------------------ the rest */

static void test_reset(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image *image = (struct image *)(void *)vcpu->xsave;
	struct image expected = {.fcw = 0x40, .ftw = 0xff, .mxcsr = 0x1f80, .xstate_bv = 1};

	random_state(fixture);
	fpu_reset(vcpu);
	assert_true(vcpu->vectors_saved);
	ASSEMBLE(fixture, 0x90);
	run_bare(fixture->bare);
	expected.mxcsr_mask = fixture->bare->state.mxcsr_mask;
	assert_int_not_equal(expected.mxcsr_mask, 0);
	assert_memory_equal(image, &expected, offsetof(struct image, more));

	/* and that is a state that the CPU takes */
	vectors_restore(vcpu);
	assert_false(vcpu->vectors_saved);
	vectors_save(vcpu);
	assert_memory_equal(image, &expected, offsetof(struct image, fip));
	assert_memory_equal(image->st, expected.st, sizeof expected.st);
	assert_memory_equal(image->xmm, expected.xmm, sizeof expected.xmm);
}

/* C finds the environment that it was compiled for, and asking twice saves once. */
static void test_save(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image before;
	u32 mxcsr;
	u16 fcw;

	random_state(fixture);
	vectors_restore(vcpu);
	vectors_save(vcpu);
	asm volatile("stmxcsr %0" : "=m"(mxcsr));
	asm volatile("fnstcw %0" : "=m"(fcw));
	assert_int_equal(mxcsr, 0x1f80);
	assert_int_equal(fcw, 0x37f);
	memcpy(&before, vcpu->xsave, sizeof before);
	asm volatile("pcmpeqd %%xmm3, %%xmm3" ::: "xmm3");
	vectors_save(vcpu);
	assert_memory_equal(&before, vcpu->xsave, sizeof before);
}

/* Without 64-bit mode there are eight vector registers, and the others are not touched. */
static void test_32bit(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	struct image *in_memory = (struct image *)(void *)fixture->guest, before, after;

	vcpu->efer = 0;
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena;
	vcpu->ctx.gpr[RAX] = COMPONENTS;
	vcpu->ctx.gpr[RDX] = 0;
	for (unsigned xsave = 0; xsave < 2; xsave++) {
		map_random(fixture, 0);
		random_state(fixture);
		memcpy(&before, in_memory, sizeof before);
		assert_true(run_live(vcpu, xsave ? fpu_xsave : fpu_fxsave, &memory_insn));
		memcpy(&after, vcpu->xsave, sizeof after);
		assert_memory_equal(in_memory->xmm, after.xmm, 8 * 16);
		assert_memory_equal(in_memory->xmm[8], before.xmm[8], 8 * 16);
		assert_memory_equal(in_memory->ymm_high[8], before.ymm_high[8], 8 * 16);

		random_state(fixture);
		memcpy(&before, vcpu->xsave, sizeof before);
		before.xstate_bv = COMPONENTS;
		memcpy(vcpu->xsave, &before, sizeof before);
		random_image(fixture, in_memory);
		in_memory->xstate_bv = 1;
		assert_true(run_live(vcpu, xsave ? fpu_xrstor : fpu_fxrstor, &memory_insn));
		memcpy(&after, vcpu->xsave, sizeof after);
		if (xsave)
			memset(in_memory->xmm, 0, 8 * 16);
		assert_memory_equal(after.xmm, in_memory->xmm, 8 * 16);
		assert_memory_equal(after.xmm[8], before.xmm[8], 8 * 16);
		assert_memory_equal(after.ymm_high[8], before.ymm_high[8], 8 * 16);
		assert_int_equal(all_zero(after.ymm_high, 8 * 16), xsave);
	}
}

/* What XCR0 does not have is not written, whoever asks. */
static void test_xcr0(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;

	map_random(fixture, 0);
	random_state(fixture);
	vcpu->xcr0 = 3;
	vcpu->ctx.gpr[RDI] = (u64)fixture->arena;
	vcpu->ctx.gpr[RAX] = vcpu->ctx.gpr[RDX] = ~0ull;
	assert_true(run_live(vcpu, fpu_xsave, &memory_insn));
	assert_memory_equal(fixture->arena + 520, fixture->guest + 520, PAGE_SIZE - 520);
}

static void test_availability(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu *vcpu = &fixture->fake->vcpu;
	static const struct {
		handler *execute;
		u16 mnemonic;
		u64 cr0, cr4, xcr0;
		int vector; /* -1: none */
	} cases[] = {
		{fpu_fxsave, 0, X86_CR0_TS, ~0ull, 7, VECTOR_NM},
		{fpu_fxsave, 0, X86_CR0_EM, ~0ull, 7, VECTOR_NM},
		{fpu_fxrstor, 0, X86_CR0_TS, ~0ull, 7, VECTOR_NM},
		{fpu_fnstenv, 0, X86_CR0_TS, 0, 7, VECTOR_NM},
		{fpu_fnsave, 0, X86_CR0_EM, 0, 7, VECTOR_NM},
		{fpu_fnsave, 0, 0, 0, 7, -1},
		{fpu_xsave, 0, X86_CR0_TS, X86_CR4_OSFXSR, 7, VECTOR_UD},
		{fpu_xsave, 0, X86_CR0_TS, X86_CR4_OSXSAVE, 7, VECTOR_NM},
		{fpu_xsave, 0, X86_CR0_EM, X86_CR4_OSXSAVE, 7, -1},
		{fpu_xrstor, 0, 0, X86_CR4_OSFXSR, 7, VECTOR_UD},
		{fpu_xrstor, 0, X86_CR0_TS, X86_CR4_OSXSAVE, 7, VECTOR_NM},
		{fpu_gather, ZYDIS_MNEMONIC_VPGATHERDD, 0, X86_CR4_OSXSAVE, 3, VECTOR_UD},
		{fpu_gather, ZYDIS_MNEMONIC_VPGATHERDD, 0, X86_CR4_OSFXSR, 7, VECTOR_UD},
		{fpu_gather, ZYDIS_MNEMONIC_VPGATHERDD, X86_CR0_TS, ~0ull, 7, VECTOR_NM},
		{fpu_maskmov, ZYDIS_MNEMONIC_VMASKMOVPS, 0, ~0ull, 3, VECTOR_UD},
		{fpu_maskmov, ZYDIS_MNEMONIC_VMASKMOVDQU, 0, ~0ull, 3, VECTOR_UD},
		{fpu_maskmov, ZYDIS_MNEMONIC_MASKMOVDQU, 0, X86_CR4_OSXSAVE, 7, VECTOR_UD},
		{fpu_maskmov, ZYDIS_MNEMONIC_MASKMOVDQU, X86_CR0_EM, ~0ull, 7, VECTOR_UD},
		{fpu_maskmov, ZYDIS_MNEMONIC_MASKMOVDQU, X86_CR0_TS, ~0ull, 7, VECTOR_NM},
		{fpu_maskmov, ZYDIS_MNEMONIC_MASKMOVQ, X86_CR0_EM, 0, 7, VECTOR_UD},
		{fpu_maskmov, ZYDIS_MNEMONIC_MASKMOVQ, X86_CR0_TS, 0, 7, VECTOR_NM},
	};

	map_random(fixture, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct insn insn = memory_insn;

		insn.mnemonic = cases[i].mnemonic;
		vcpu->cr0 = cases[i].cr0;
		vcpu->cr4 = cases[i].cr4;
		vcpu->xcr0 = cases[i].xcr0;
		vcpu->ctx.gpr[RDI] = (u64)fixture->arena;
		random_state(fixture);
		assert_int_equal(run_live(vcpu, cases[i].execute, &insn), cases[i].vector < 0);
		if (cases[i].vector >= 0)
			assert_int_equal(vcpu->exception.vector, cases[i].vector);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fxsave),	 TEST(xsave),	    TEST(xsave_faults), TEST(fxrstor), TEST(xrstor),
		TEST(unaligned), TEST(fnstenv),	    TEST(fnsave),	TEST(gather),  TEST(masked),
		TEST(bytes),	 TEST(bytes_fault), TEST(pending),	TEST(reset),   TEST(save),
		TEST(32bit),	 TEST(xcr0),	    TEST(availability),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
