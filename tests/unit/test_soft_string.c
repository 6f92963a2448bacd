/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The string instructions of the soft engine, against this machine's own.
 *
 * One memory file is mapped page by page for the CPU, another with the same
 * contents is what the handler works on, at the same addresses; the CPU's instruction
 * is assembled into a page and may fault. Afterwards registers, flags, the fault and
 * every byte of memory are the same, or the case's number is printed.
 */
#include "soft_pages.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <cmocka.h>

#define CASES 20000u

/* In two halves, so that a pointer of 32 bits wraps in the middle; a sanitizer may live there. */
#define WRAPPING_BASE (GiB(4) - PAGES / 2 * PAGE_SIZE)
#define PLAIN_BASE    MiB(512)

#define FLAGS_DF 0x400u
#define INSN_RIP 0x1000u
#define NEXT_RIP 0x1003u

/* What the CPU did. The handler of SIGSEGV finds it in rbx. */
struct stand {
	u64 rax, rcx, rsi, rdi, flags;
	const u8 *code;
	const u8 *ret; /* the instruction after it */
	bool faulted, fault_write;
	u64 fault_address;
};

struct fixture {
	struct fake *fake;
	u8 *cpu_file, *guest_file; /* PAGES pages each, as the CPU's and the guest's are made of */
	int cpu_fd;
	void *arena; /* the CPU's addresses of them */
	u8 *code;
	u64 random;
	struct stand bare;
};

enum kind { MOVS, CMPS, STOS, LODS, SCAS, KINDS };

static handler *const handlers[KINDS] = {string_movs, string_cmps, string_stos, string_lods,
					 string_scas};

/* limit.c: segments have no limits here. */
bool raise_error(struct vcpu *vcpu, enum vector vector, u32 error)
{
	(void)vcpu, (void)vector, (void)error;
	fail();
	return false;
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
	bare->fault_write = regs[REG_ERR] & 2;
	bare->fault_address = (u64)info->si_addr;
	regs[REG_RIP] = (greg_t)bare->ret;
}

/* Below rsp lies what the compiler keeps in the red zone. */
static void run_bare(struct stand *bare)
{
	asm volatile(
		"lea -128(%%rsp), %%rsp\n\t"
		"push %c[flags](%%rbx)\n\t"
		"mov %c[rax](%%rbx), %%rax\n\t"
		"mov %c[rcx](%%rbx), %%rcx\n\t"
		"mov %c[rsi](%%rbx), %%rsi\n\t"
		"mov %c[rdi](%%rbx), %%rdi\n\t"
		"popfq\n\t"
		"call *%c[code](%%rbx)\n\t"
		"pushfq\n\t"
		"cld\n\t"
		"pop %c[flags](%%rbx)\n\t"
		"mov %%rax, %c[rax](%%rbx)\n\t"
		"mov %%rcx, %c[rcx](%%rbx)\n\t"
		"mov %%rsi, %c[rsi](%%rbx)\n\t"
		"mov %%rdi, %c[rdi](%%rbx)\n\t"
		"lea 128(%%rsp), %%rsp"
		:
		: "b"(bare), [rax] "i"(offsetof(struct stand, rax)),
		  [rcx] "i"(offsetof(struct stand, rcx)), [rsi] "i"(offsetof(struct stand, rsi)),
		  [rdi] "i"(offsetof(struct stand, rdi)),
		  [flags] "i"(offsetof(struct stand, flags)),
		  [code] "i"(offsetof(struct stand, code))
		: "rax", "rcx", "rsi", "rdi", "memory", "cc");
}

/* In each test: cmocka has a handler of its own, which it sets up last. */
static void catch_faults(void)
{
	const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

	assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
}

/* ------------------------------------------------------------------ set up */

static void arch_prctl(int code, u64 value)
{
	assert_int_equal(syscall(SYS_arch_prctl, code, value), 0);
}

static u8 *map_file(const char *name, int *fd)
{
	u8 *at;

	*fd = memfd_create(name, 0);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, PAGES * PAGE_SIZE), 0);
	at = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	return at;
}

static u64 reserve(void)
{
	static const u64 bases[] = {WRAPPING_BASE, PLAIN_BASE};

	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++)
		if (mmap((void *)bases[i], PAGES * PAGE_SIZE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			 0) == (void *)bases[i])
			return bases[i];
	fail_msg("no place for the arena");
	return 0;
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof *fixture);
	int guest_fd;

	assert_non_null(fixture);
	fixture->arena = (void *)reserve();
	fixture->fake = fake_new((u64)fixture->arena);
	fixture->cpu_file = map_file("cpu", &fixture->cpu_fd);
	fixture->guest_file = map_file("guest", &guest_fd);
	close(guest_fd);
	fixture->code = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(fixture->code, MAP_FAILED);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	arch_prctl(ARCH_SET_GS, 0);
	munmap(fixture->arena, PAGES * PAGE_SIZE);
	munmap(fixture->cpu_file, PAGES * PAGE_SIZE);
	munmap(fixture->guest_file, PAGES * PAGE_SIZE);
	munmap(fixture->code, PAGE_SIZE);
	close(fixture->cpu_fd);
	free(fixture->fake);
	free(fixture);
	return 0;
}

/* Plain memory, each page its own. */
static void map_page(struct fixture *fixture, unsigned page, bool readable, bool writable)
{
	void *at = (void *)(fixture->fake->base + page * PAGE_SIZE);
	const int protection = (readable ? PROT_READ : 0) | (writable ? PROT_WRITE : 0);

	assert_ptr_equal(mmap(at, PAGE_SIZE, protection, MAP_SHARED | MAP_FIXED, fixture->cpu_fd,
			      (off_t)(page * PAGE_SIZE)),
			 at);
	fixture->fake->page[page] = (struct page){
		.host = fixture->guest_file + page * PAGE_SIZE,
		.readable = readable,
		.writable = writable,
		.direct = true,
	};
}

static void map_plain(struct fixture *fixture)
{
	for (unsigned i = 0; i < PAGES; i++)
		map_page(fixture, i, true, true);
}

/*
 * Some pages are missing, read-only, or full of code. None is the same as another: where source and
 * destination overlap only so, the CPU's fast strings do not copy in order, and ours do.
 */
static void map_random(struct fixture *fixture)
{
	for (unsigned i = 0; i < PAGES; i++) {
		const bool readable = !chance(&fixture->random, 8);

		map_page(fixture, i, readable, readable && !chance(&fixture->random, 8));
		fixture->fake->page[i].direct = !chance(&fixture->random, 15);
	}
}

/* Mostly one value, so that comparisons have something to find late. */
static void fill_random(struct fixture *fixture)
{
	memset(fixture->cpu_file, 0x41, PAGES * PAGE_SIZE);
	for (unsigned i = below(&fixture->random, 60); i; i--)
		fixture->cpu_file[below(&fixture->random, PAGES * PAGE_SIZE)] =
			next_random(&fixture->random);
	memcpy(fixture->guest_file, fixture->cpu_file, PAGES * PAGE_SIZE);
}

/* ------------------------------------------------------------------ one case */

static void assemble(struct fixture *fixture, enum kind kind, const struct insn *insn)
{
	static const u8 opcodes[KINDS] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
	u8 *at = fixture->code;

	if (insn->segment == GS)
		*at++ = 0x65;
	if (insn->addrsize == 4)
		*at++ = 0x67;
	if (insn->opsize == 2)
		*at++ = 0x66;
	if (insn->repeat)
		*at++ = insn->repeat;
	if (insn->opsize == 8)
		*at++ = 0x48;
	*at++ = opcodes[kind] + (insn->opsize > 1);
	*at = 0xc3; /* ret */
	fixture->bare.code = fixture->code;
	fixture->bare.ret = at;
}

static void set_direction(struct vcpu *vcpu, bool down)
{
	for (unsigned i = 0; i < 4; i++)
		vcpu->ctx.step[i] = down ? -(s64)(1 << i) : 1 << i;
}

/* As the run loop does it: again, as long as it says so. */
static bool run_handler(struct vcpu *vcpu, handler *execute, const struct insn *insn)
{
	do {
		atomic_store(&vcpu->ctx.poll, 0);
		vcpu->insn_rip = INSN_RIP;
		vcpu->ctx.rip = NEXT_RIP;
		if (!execute(vcpu, insn))
			return false;
	} while (vcpu->ctx.rip == INSN_RIP);
	assert_int_equal(vcpu->ctx.rip, NEXT_RIP);
	return true;
}

static u64 random_pointer(struct fixture *fixture, const struct insn *insn, u64 segment_base)
{
	u64 pointer = fixture->fake->base + below(&fixture->random, PAGES * PAGE_SIZE);

	if (chance(&fixture->random, 30)) /* near the edge of a page */
		pointer = align_down(pointer, PAGE_SIZE) - 9 + below(&fixture->random, 18);
	pointer -= segment_base;
	if (insn->addrsize == 4) /* what is above does not count */
		pointer ^= next_random(&fixture->random) << 32;
	return pointer;
}

static u64 random_count(struct fixture *fixture, const struct insn *insn)
{
	u64 count = chance(&fixture->random, 60)   ? below(&fixture->random, 20)
		    : chance(&fixture->random, 50) ? below(&fixture->random, 700)
						   : below(&fixture->random, 3 * PAGE_SIZE);

	if (insn->addrsize == 4)
		count ^= next_random(&fixture->random) << 32;
	return count;
}

static void compare(struct fixture *fixture, bool done, unsigned number)
{
	const struct stand *bare = &fixture->bare;
	struct fake *fake = fixture->fake;
	const u64 *gpr = fake->vcpu.ctx.gpr;
	const bool same = done == !bare->faulted && gpr[RAX] == bare->rax &&
			  gpr[RCX] == bare->rcx && gpr[RSI] == bare->rsi && gpr[RDI] == bare->rdi &&
			  fake->vcpu.ctx.arith == (bare->flags & FLAGS_ARITH) &&
			  fake->faulted == bare->faulted &&
			  (done || (fake->fault_address == bare->fault_address &&
				    fake->fault_write == bare->fault_write)) &&
			  !memcmp(fixture->cpu_file, fixture->guest_file, PAGES * PAGE_SIZE);

	if (same)
		return;
	print_error("case %u: %02x %02x %02x %02x %02x\n", number, bare->code[0], bare->code[1],
		    bare->code[2], bare->code[3], bare->code[4]);
	print_error("cpu:   rax %lx rcx %lx rsi %lx rdi %lx flags %lx fault %d %d %lx\n", bare->rax,
		    bare->rcx, bare->rsi, bare->rdi, bare->flags & FLAGS_ARITH, bare->faulted,
		    bare->fault_write, bare->fault_address);
	print_error("guest: rax %lx rcx %lx rsi %lx rdi %lx flags %lx fault %d %d %lx\n", gpr[RAX],
		    gpr[RCX], gpr[RSI], gpr[RDI], fake->vcpu.ctx.arith, fake->faulted,
		    fake->fault_write, fake->fault_address);
	fail_msg("they differ");
}

/* Registers are in fixture->bare, and the memory is as it shall be. */
static void run_both(struct fixture *fixture, enum kind kind, const struct insn *insn,
		     unsigned number)
{
	struct fake *fake = fixture->fake;
	struct stand *bare = &fixture->bare;
	struct context *ctx = &fake->vcpu.ctx;

	ctx->gpr[RAX] = bare->rax;
	ctx->gpr[RCX] = bare->rcx;
	ctx->gpr[RSI] = bare->rsi;
	ctx->gpr[RDI] = bare->rdi;
	ctx->arith = bare->flags & FLAGS_ARITH;
	set_direction(&fake->vcpu, bare->flags & FLAGS_DF);

	assemble(fixture, kind, insn);
	bare->faulted = fake->faulted = false;
	run_bare(bare);
	compare(fixture, run_handler(&fake->vcpu, handlers[kind], insn), number);
}

static void random_case(struct fixture *fixture, unsigned number)
{
	static const u8 repeats[] = {0, 0xf2, 0xf3, 0xf3};
	const enum kind kind = below(&fixture->random, KINDS);
	struct insn insn = {
		.opsize = 1 << below(&fixture->random, 4),
		.addrsize = chance(&fixture->random, 70) ? 8 : 4,
		.repeat = repeats[below(&fixture->random, ARRAY_SIZE(repeats))],
		.segment = chance(&fixture->random, 80) ? DS : GS,
	};
	struct fake *fake = fixture->fake;
	struct stand *bare = &fixture->bare;
	u64 base = 0;

	if (insn.segment == GS) {
		base = below(&fixture->random, GiB(2));
		arch_prctl(ARCH_SET_GS, base);
		fake->vcpu.ctx.base[GS] = base;
	}
	map_random(fixture);
	fill_random(fixture);
	bare->rax =
		chance(&fixture->random, 50) ? 0x4141414141414141 : next_random(&fixture->random);
	bare->rcx = random_count(fixture, &insn);
	bare->rsi = random_pointer(fixture, &insn, base);
	bare->rdi = chance(&fixture->random, 30)
			    ? bare->rsi + base + below(&fixture->random, 33) - 16
			    : random_pointer(fixture, &insn, 0);
	bare->flags = 2 | (next_random(&fixture->random) & FLAGS_ARITH);
	if (chance(&fixture->random, 40))
		bare->flags |= FLAGS_DF;
	fake->polls_after = chance(&fixture->random, 30) ? 1 + below(&fixture->random, 4) : 0;
	run_both(fixture, kind, &insn, number);
}

static void test_random(void **state)
{
	struct fixture *fixture = *state;

	catch_faults();
	for (unsigned i = 0; i < CASES; i++) {
		fixture->random = i + 1;
		next_random(&fixture->random);
		random_case(fixture, i);
	}
}

/* ------------------------------------------------------------------ what random cases rarely meet
 */

static struct insn plain_insn(unsigned size, unsigned repeat)
{
	return (struct insn){.opsize = size, .addrsize = 8, .repeat = repeat, .segment = DS};
}

/* 32 bits of pointer wrap, and an element may lie on both sides, beyond what they can say. */
static void test_wrap(void **state)
{
	struct fixture *fixture = *state;
	struct stand *bare = &fixture->bare;

	if (fixture->fake->base != WRAPPING_BASE)
		skip();
	catch_faults();
	map_plain(fixture);
	fixture->random = 1;
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned size = 1; size <= 8; size *= 2)
			for (unsigned before = 0; before < 20; before++)
				for (unsigned down = 0; down < 2; down++) {
					struct insn insn = plain_insn(size, 0xf3);

					insn.addrsize = 4;
					fill_random(fixture);
					bare->rax = 0x4141414141414141;
					bare->rcx = 7;
					bare->rsi = GiB(4) - before;
					bare->rdi = GiB(4) - PAGE_SIZE;
					bare->flags = 2 | (down ? FLAGS_DF : 0);
					run_both(fixture, kind, &insn, before);
				}
}

/* Nothing to do is nothing looked at, but upper halves of pointers are not what they were. */
static void test_count_zero(void **state)
{
	struct fixture *fixture = *state;
	struct stand *bare = &fixture->bare;

	map_plain(fixture);
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned addrsize = 4; addrsize <= 8; addrsize += 4) {
			struct insn insn = plain_insn(1, 0xf3);

			insn.addrsize = addrsize;
			*bare = (struct stand){.rax = 5, .rsi = 1ull << 40, .rdi = 3ull << 40};
			bare->rcx = addrsize == 4 ? 7ull << 32 : 0;
			bare->flags = 2 | FLAGS_ARITH;
			run_both(fixture, kind, &insn, kind);
		}
}

static void map_device(struct fixture *fixture, unsigned page)
{
	fixture->fake->page[page] =
		(struct page){.readable = true, .writable = true, .device = true};
	fixture->fake->device_reads = fixture->fake->device_writes = 0;
}

/* A device sees each element once, whole. */
static void test_device(void **state)
{
	struct fixture *fixture = *state;
	struct fake *fake = fixture->fake;
	struct context *ctx = &fake->vcpu.ctx;
	const struct insn movs = plain_insn(4, 0xf3), stos = plain_insn(8, 0xf3);
	const u64 device = fake->base + PAGE_SIZE;

	map_plain(fixture);
	map_device(fixture, 1);
	fake->polls_after = 0;
	set_direction(&fake->vcpu, false);

	ctx->gpr[RSI] = device + 8;
	ctx->gpr[RDI] = fake->base;
	ctx->gpr[RCX] = 5;
	assert_true(run_handler(&fake->vcpu, string_movs, &movs));
	assert_int_equal(fake->device_reads, 5);
	assert_int_equal(fake->device_writes, 0);
	assert_int_equal(((u32 *)fixture->guest_file)[4], (u32)(device + 8 + 16));

	ctx->gpr[RAX] = 0x1122334455667788;
	ctx->gpr[RDI] = device;
	ctx->gpr[RCX] = 3;
	assert_true(run_handler(&fake->vcpu, string_stos, &stos));
	assert_int_equal(fake->device_writes, 3);
	assert_int_equal(fake->device_written, 0x1122334455667788);
	assert_int_equal(ctx->gpr[RCX], 0);
	assert_int_equal(ctx->gpr[RDI], device + 24);
}

/* What was read from a device is gone: so not before it can be written. */
static void test_device_not_read_in_vain(void **state)
{
	struct fixture *fixture = *state;
	struct fake *fake = fixture->fake;
	struct context *ctx = &fake->vcpu.ctx;
	const struct insn movs = plain_insn(4, 0xf3), cmps = plain_insn(4, 0xf3);

	map_plain(fixture);
	map_device(fixture, 1);
	fake->page[3].readable = fake->page[3].writable = false;
	set_direction(&fake->vcpu, false);

	ctx->gpr[RSI] = fake->base + PAGE_SIZE;
	ctx->gpr[RDI] = fake->base + 3 * PAGE_SIZE - 8;
	ctx->gpr[RCX] = 5;
	assert_false(run_handler(&fake->vcpu, string_movs, &movs));
	assert_int_equal(fake->device_reads, 2);
	assert_int_equal(ctx->gpr[RCX], 3);
	assert_int_equal(fake->fault_address, fake->base + 3 * PAGE_SIZE);

	ctx->gpr[RSI] = fake->base + 3 * PAGE_SIZE;
	ctx->gpr[RDI] = fake->base + PAGE_SIZE;
	assert_false(run_handler(&fake->vcpu, string_cmps, &cmps));
	assert_int_equal(fake->device_reads, 2);
}

/* Somebody who wants the vCPU waits for a page at most, and whoever always wants it starves no one.
 */
static void test_poll(void **state)
{
	struct fixture *fixture = *state;
	struct fake *fake = fixture->fake;
	struct context *ctx = &fake->vcpu.ctx;
	const struct insn stos = plain_insn(1, 0xf3);

	map_plain(fixture);
	set_direction(&fake->vcpu, false);
	ctx->gpr[RDI] = fake->base + 1;
	ctx->gpr[RCX] = 3 * PAGE_SIZE;
	for (unsigned i = 1; i < 4; i++) {
		atomic_store(&ctx->poll, POLL_INTERRUPT);
		fake->vcpu.insn_rip = INSN_RIP;
		ctx->rip = NEXT_RIP;
		assert_true(string_stos(&fake->vcpu, &stos));
		assert_int_equal(ctx->rip, INSN_RIP);
		assert_int_equal(ctx->gpr[RDI], fake->base + i * PAGE_SIZE);
		assert_int_equal(ctx->gpr[RCX], (3 - i) * PAGE_SIZE + 1);
	}
	ctx->rip = NEXT_RIP;
	assert_true(string_stos(&fake->vcpu, &stos));
	assert_int_equal(ctx->rip, NEXT_RIP);
	assert_int_equal(ctx->gpr[RCX], 0);
}

/*
 * 16-bit code is not within this program's reach. It has bases, and they need not agree with pages;
 * its pointers wrap in the middle of one, and their upper halves stay.
 */
static void real_mode_wraps(struct fixture *fixture, bool down)
{
	struct fake *fake = fixture->fake;
	struct context *ctx = &fake->vcpu.ctx;
	u8 *source = fixture->guest_file + 0x10, *destination = fixture->guest_file + 0xf000;
	const u64 upper = 0xaaaabbbbcccc0000;
	struct insn movs = plain_insn(2, 0xf3);

	memset(fixture->guest_file, 0, PAGES * PAGE_SIZE);
	source[0xfffc] = 1;
	source[0xfffe] = 2;
	source[0] = 3;
	source[2] = 4;
	fake->base = MiB(1);
	fake->vcpu.efer = 0;
	ctx->base[DS] = fake->base + 0x10;
	ctx->base[ES] = fake->base + 0xf000 - 0x100;
	movs.addrsize = 2;
	set_direction(&fake->vcpu, down);
	ctx->gpr[RSI] = upper | (down ? 2 : 0xfffc);
	ctx->gpr[RDI] = upper | (down ? 0x106 : 0x100);
	ctx->gpr[RCX] = upper | 4;
	assert_true(run_handler(&fake->vcpu, string_movs, &movs));
	assert_int_equal(ctx->gpr[RSI], upper | (down ? 0xfffa : 4));
	assert_int_equal(ctx->gpr[RDI], upper | (down ? 0xfe : 0x108));
	assert_int_equal(ctx->gpr[RCX], upper);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(destination[i * 2], i + 1);
}

static void test_real_mode(void **state)
{
	struct fixture *fixture = *state;

	map_plain(fixture);
	real_mode_wraps(fixture, false);
	real_mode_wraps(fixture, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrap, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_count_zero, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_device, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_device_not_read_in_vain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poll, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_real_mode, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
