/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bounds check of the checking build (src/engine/soft/check.c): that it finds
 * an access outside the guest, that it says nothing of all others, and that the
 * guest does not notice it.
 *
 * Translated code runs here, an instruction and a UD2, whose exception finds no
 * handler: a triple fault is how a guest ends well. Outside the guest it gets by way of a
 * TLB entry that we spoil, as a bug would.
 */
#include "soft_vcpu.h"

#include "engine/soft/translate.h"

#define END_OF_RAM 0x60000u /* a page, mapped to the last one of RAM */
#define DEVICE	   0x61000u /* a page, mapped to where no RAM is */
#define NO_RAM	   MiB(2)

#define PATTERN 0x8877665544332211ull
#define FOREIGN 0x1122334455667788ull

struct instruction {
	const char *name;
	u8 length;
	u8 bytes[7];
	u64 rdi, rsp;
};

/* rdi is where; rdx is what is written, and what becomes of what is read. */
#define LOAD                                                                                       \
	3,                                                                                         \
	{                                                                                          \
		0x48, 0x8b, 0x17                                                                   \
	}
#define STORE                                                                                      \
	3,                                                                                         \
	{                                                                                          \
		0x48, 0x89, 0x17                                                                   \
	}
#define BYTE                                                                                       \
	2,                                                                                         \
	{                                                                                          \
		0x8a, 0x17                                                                         \
	}

static void set_up(struct fixture *f, const struct instruction *insn)
{
	struct vcpu *vcpu = f->vcpu;

	put64(f, PT + END_OF_RAM / PAGE_SIZE * 8, (RAM_SIZE - PAGE_SIZE) | PTE_USER);
	put64(f, PT + DEVICE / PAGE_SIZE * 8, NO_RAM | PTE_USER);
	memcpy(f->ram + RIP, insn->bytes, insn->length);
	memcpy(f->ram + RIP + insn->length, (const u8[]){0x0f, 0x0b}, 2);
	mode_64(vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->ctx.gpr); i++)
		vcpu->ctx.gpr[i] = PATTERN + i;
	vcpu->ctx.gpr[RDI] = insn->rdi;
	vcpu->ctx.gpr[RSP] = insn->rsp ? insn->rsp : STACK;
	vcpu->ctx.rip = RIP;
	vcpu->ctx.arith = FLAGS_ARITH;
	f->soft->checked = true;
}

/* True: the check has found something. Else the guest has come to its end. */
static bool found(struct fixture *f)
{
	struct machine *machine = &f->machine;

	soft_vcpu_run(f->vcpu);
	assert_false(machine_running(machine));
	assert_int_equal(machine->status, EXIT_CRASHED);
	if (strstr(machine->why, "outside the guest"))
		return true;
	assert_non_null(strstr(machine->why, "triple fault"));
	return false;
}

static void again(struct fixture *f)
{
	cache_flush(f->vcpu);
	atomic_store(&f->machine.state, MACHINE_RUNNING);
}

static void test_ordinary_accesses_pass(void **state)
{
	static const struct instruction ordinary[] = {
		{"load", LOAD, .rdi = DATA},
		{"store", STORE, .rdi = DATA},
		{"push", 1, {0x52}, .rdi = DATA},
		{"load of RAM's first bytes", LOAD, .rdi = 0},
		{"load of RAM's last bytes", LOAD, .rdi = END_OF_RAM + PAGE_SIZE - 8},
		{"store to RAM's last bytes", STORE, .rdi = END_OF_RAM + PAGE_SIZE - 8},
		{"byte, the last", BYTE, .rdi = END_OF_RAM + PAGE_SIZE - 1},
		{"load across pages", LOAD, .rdi = DATA + PAGE_SIZE - 3},
		{"store across pages", STORE, .rdi = DATA + PAGE_SIZE - 3},
		{"push across pages", 1, {0x52}, .rdi = DATA, .rsp = STACK + 3},
		{"load from a device", LOAD, .rdi = DEVICE + 8},
		{"store to a device", STORE, .rdi = DEVICE + 8},
		{"store to a page with code", STORE, .rdi = RIP + 0x800},
	};
	struct fixture *f = *state;
	u64 *gpr = f->vcpu->ctx.gpr;

	for (unsigned i = 0; i < ARRAY_SIZE(ordinary); i++) {
		const struct instruction *insn = &ordinary[i];

		set_up(f, insn);
		if (found(f))
			fail_msg("%s: %s", insn->name, f->machine.why);
		/* The check may use what it likes, as long as the guest finds its own. */
		assert_int_equal(f->vcpu->ctx.arith, FLAGS_ARITH);
		for (unsigned reg = 0; reg < 16; reg++)
			if (reg != RDX && reg != RDI && reg != RSP)
				assert_int_equal(gpr[reg], PATTERN + reg);
		assert_int_equal(gpr[RDI], insn->rdi);
		again(f);
	}
}

/* The TLB says that this page is so far from there. */
static void spoil(struct vcpu *vcpu, u64 page, const void *host)
{
	struct tlb *tlb = &vcpu->ctx.kernel[VIEW_KERNEL].tlb;

	assert_non_null(mem_direct(vcpu, page, ACCESS_WRITE));
	for (enum tlb_kind kind = 0; kind < TLB_KINDS; kind++)
		tlb->part[kind].addend[tlb_index(tlb, page)] = (u64)host - page;
}

static const struct instruction load = {"load", LOAD, .rdi = DATA};
static const struct instruction store = {"store", STORE, .rdi = DATA};
static const struct instruction push = {"push", 1, {0x52}, .rdi = DATA, .rsp = DATA + 8};

/* Were it not for the check, they would read and write what is not theirs. */
static void test_finds_what_it_is_for(void **state)
{
	static const struct instruction *const all[] = {&load, &store, &push};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		for (unsigned checked = 0; checked < 2; checked++) {
			u64 foreign = FOREIGN;
			bool done;

			set_up(f, all[i]);
			f->soft->checked = checked;
			spoil(f->vcpu, DATA, &foreign);
			assert_int_equal(found(f), checked);
			done = all[i] == &load ? f->vcpu->ctx.gpr[RDX] == FOREIGN
					       : foreign == PATTERN + RDX;
			assert_int_equal(done, !checked);
			if (checked)
				assert_int_equal(f->vcpu->ctx.rip, RIP);
			again(f);
		}
}

static bool finds_at(struct fixture *f, const u8 *host)
{
	bool result;

	set_up(f, &load);
	spoil(f->vcpu, DATA, host);
	result = found(f);
	again(f);
	return result;
}

/* To the byte, at each end of all that is allowed. */
static void test_is_exact(void **state)
{
	struct fixture *f = *state;
	const u8 *bounce = f->vcpu->bounce_buffer;
	u64 length = sizeof(f->vcpu->bounce_buffer);

	assert_false(finds_at(f, f->ram));
	assert_true(finds_at(f, f->ram - 1));
	assert_true(finds_at(f, f->ram - 8));
	assert_false(finds_at(f, f->ram + RAM_SIZE - 8));
	assert_true(finds_at(f, f->ram + RAM_SIZE - 7));
	assert_true(finds_at(f, f->ram + RAM_SIZE));
	assert_false(finds_at(f, bounce));
	assert_true(finds_at(f, bounce - 1));
	assert_false(finds_at(f, bounce + length - 8));
	assert_true(finds_at(f, bounce + length - 7));
}

/* Less RAM than a power of two, and in two pieces. */
static void test_other_sizes(void **state)
{
	struct fixture *f = *state;
	struct ram *ram = f->soft->ram;

	ram[0].size = RAM_SIZE / 2 + RAM_SIZE / 4;
	assert_false(finds_at(f, f->ram + ram[0].size - 8));
	assert_true(finds_at(f, f->ram + ram[0].size - 7));
	ram[1] = ram[0];
	ram[1].gpa = MiB(16);
	ram[1].host = f->ram + ram[0].size;
	ram[1].size = PAGE_SIZE;
	f->soft->ram_count = 2;
	assert_false(finds_at(f, ram[1].host));
	assert_false(finds_at(f, ram[1].host + PAGE_SIZE - 8));
	assert_true(finds_at(f, ram[1].host + PAGE_SIZE - 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ordinary_accesses_pass),
		TEST(test_finds_what_it_is_for),
		TEST(test_is_exact),
		TEST(test_other_sizes),
	};

	return cmocka_run_group_tests_name("soft_check", tests, NULL, NULL);
}
