/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug registers of the soft engine: what is a hit, what becomes of it, and that
 * nobody gets past. No guest code runs: what translated code and the run loop ask is asked here.
 */
#include "soft_vcpu.h"

#include <asm/debugreg.h>

#define DR6_CLEAR   0xffff0ff0u
#define DR6_ACCESS  (1u << 13)
#define DR7_CLEAR   0x400u
#define DR7_GENERAL (1u << 13)
#define DR_RW_PORT  2u

/* Of DR7: breakpoint n, for that, enabled. */
static u64 point(unsigned n, u64 type, u64 length)
{
	return 1ull << 2 * n | (type | length) << (DR_CONTROL_SHIFT + n * DR_CONTROL_SIZE);
}

static void set_dr(struct fixture *f, unsigned dr, u64 value)
{
	f->vcpu->ctx.gpr[RDX] = value;
	assert_done(f, system_mov_dr, mov_dr(dr, true));
}

static u64 get_dr(struct fixture *f, unsigned dr)
{
	assert_done(f, system_mov_dr, mov_dr(dr, false));
	return f->vcpu->ctx.gpr[RDX];
}

static void test_registers(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	for (unsigned dr = 0; dr < 4; dr++)
		set_dr(f, dr, 0xffff800000000000 + dr);
	for (unsigned dr = 0; dr < 4; dr++)
		assert_int_equal(get_dr(f, dr), 0xffff800000000000 + dr);
	set_dr(f, 4, 0); /* the 386's name for DR6 */
	assert_int_equal(get_dr(f, 6), DR6_CLEAR);
	set_dr(f, 6, 0xffffffff);
	assert_int_equal(get_dr(f, 4), 0xffffefff);
	set_dr(f, 5, 0xffffffff & ~DR7_GENERAL);
	assert_int_equal(get_dr(f, 7), 0xffff07ff);
	f->vcpu->ctx.gpr[RDX] = 1ull << 32;
	assert_error(f, system_mov_dr, mov_dr(6, true), VECTOR_GP, 0);
	assert_error(f, system_mov_dr, mov_dr(7, true), VECTOR_GP, 0);
	f->vcpu->cr4 |= X86_CR4_DE;
	assert_fault(f, system_mov_dr, mov_dr(4, false), VECTOR_UD);
	assert_fault(f, system_mov_dr, mov_dr(5, true), VECTOR_UD);
	assert_fault(f, system_mov_dr, mov_dr(8, false), VECTOR_UD);
}

/* A fault, so RF is pushed; once in the handler the registers are free. */
static void test_general_detect(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	set_dr(f, 7, DR7_GENERAL);
	for (unsigned write = 0; write < 2; write++) {
		assert_fault(f, system_mov_dr, mov_dr(3, write), VECTOR_DB);
		assert_int_equal(f->vcpu->dr[6], DR6_CLEAR | DR6_ACCESS);
		assert_true(vcpu_rflags(f->vcpu) & X86_EFLAGS_RF);
	}
	assert_fault(f, system_mov_dr, mov_dr(9, true), VECTOR_UD);
	f->vcpu->cpl = 3;
	assert_error(f, system_mov_dr, mov_dr(3, true), VECTOR_GP, 0);
	f->vcpu->cpl = 0;
	debug_entered(f->vcpu);
	assert_int_equal(get_dr(f, 7), DR7_CLEAR);
}

static u32 touch(struct fixture *f, u64 address, unsigned length, u8 how)
{
	u32 hits;

	debug_touched(f->vcpu, address, length, how);
	hits = f->vcpu->watch.hits;
	f->vcpu->watch.hits = 0;
	return hits;
}

static void test_lengths(void **state)
{
	static const struct {
		u64 field;
		unsigned bytes;
	} lengths[] = {{DR_LEN_1, 1}, {DR_LEN_2, 2}, {DR_LEN_4, 4}, {DR_LEN_8, 8}};
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		unsigned bytes = lengths[i].bytes;

		/* The low bits of the address mean nothing. */
		set_dr(f, 1, DATA + bytes - 1);
		set_dr(f, 7, point(1, DR_RW_WRITE, lengths[i].field));
		for (unsigned size = 1; size <= 64; size *= 2)
			for (s64 at = -70; at < 70; at++) {
				bool hit = at < bytes && at + size > 0;

				assert_int_equal(touch(f, DATA + at, size, WATCH_WRITE),
						 hit ? DR_TRAP1 : 0);
			}
	}
	/* Around the end of the address space. */
	set_dr(f, 1, -1ull);
	set_dr(f, 7, point(1, DR_RW_WRITE, DR_LEN_1));
	assert_int_equal(touch(f, -4ull, 4, WATCH_WRITE), DR_TRAP1);
	assert_int_equal(touch(f, 0, 4, WATCH_WRITE), 0);
}

static void test_kinds(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	f->vcpu->cr4 |= X86_CR4_DE;
	for (unsigned dr = 0; dr < 4; dr++)
		set_dr(f, dr, DATA);
	/* All four kinds, in one place. */
	set_dr(f, 7,
	       point(0, DR_RW_EXECUTE, 0) | point(1, DR_RW_WRITE, 0) | point(2, DR_RW_PORT, 0) |
		       point(3, DR_RW_READ, 0));
	assert_int_equal(f->vcpu->watch.armed, WATCH_CODE | WATCH_WRITE | WATCH_READ | WATCH_PORT);
	assert_int_equal(touch(f, DATA, 1, WATCH_WRITE), DR_TRAP1 | DR_TRAP3);
	assert_int_equal(touch(f, DATA, 1, WATCH_READ), DR_TRAP3);
	assert_int_equal(touch(f, DATA, 1, WATCH_PORT), DR_TRAP2);
	/* Enabled, globally, and not. */
	set_dr(f, 7, point(1, DR_RW_WRITE, 0) & ~0xffull);
	assert_int_equal(f->vcpu->watch.armed, 0);
	set_dr(f, 7, (point(1, DR_RW_WRITE, 0) & ~0xffull) | 1u << 3);
	assert_int_equal(touch(f, DATA, 1, WATCH_WRITE), DR_TRAP1);
	/* Ports are for those who asked for debugging extensions. */
	set_dr(f, 7, point(2, DR_RW_PORT, 0));
	assert_int_equal(touch(f, DATA, 1, WATCH_PORT), DR_TRAP2);
	f->vcpu->cr4 &= ~(u64)X86_CR4_DE;
	debug_update(f->vcpu);
	assert_int_equal(f->vcpu->watch.armed, 0);
	assert_int_equal(touch(f, DATA, 1, WATCH_PORT), 0);
}

static void test_code(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_64(vcpu, 0);
	set_dr(f, 2, RIP + 1);
	set_dr(f, 7, point(2, DR_RW_EXECUTE, DR_LEN_1));
	assert_false(debug_before(vcpu, RIP));
	assert_true(vcpu->watch.code);
	assert_false(debug_before(vcpu, RIP + PAGE_SIZE));
	assert_false(vcpu->watch.code);
	assert_false(debug_before(vcpu, RIP + 2));
	assert_true(debug_before(vcpu, RIP + 1));
	assert_int_equal(vcpu->exception.vector, VECTOR_DB);
	assert_int_equal(vcpu->dr[6], DR6_CLEAR | DR_TRAP2);
	vcpu_set_rflags(vcpu, X86_EFLAGS_RF);
	assert_false(debug_before(vcpu, RIP + 1));
	vcpu_set_rflags(vcpu, 0);
	vcpu->shadow = SHADOW_SS;
	assert_false(debug_before(vcpu, RIP + 1));
	vcpu->shadow = SHADOW_STI;
	assert_true(debug_before(vcpu, RIP + 1));
	set_dr(f, 7, 0);
	assert_false(vcpu->watch.code);
}

static void test_behind(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	vcpu->dr[6] = DR6_CLEAR | DR_TRAP0 | DR6_ACCESS;
	vcpu->watch.hits = DR_TRAP3;
	vcpu->stepping = true;
	vcpu->shadow = SHADOW_SS;
	assert_false(debug_behind(vcpu));
	assert_int_equal(vcpu->watch.hits, DR_TRAP3);
	vcpu->shadow = SHADOW_NONE;
	assert_true(debug_behind(vcpu));
	assert_int_equal(vcpu->exception.vector, VECTOR_DB);
	assert_false(vcpu->exception.has_error);
	assert_int_equal(vcpu->dr[6], DR6_CLEAR | DR_TRAP3 | DR_STEP | DR6_ACCESS);
	assert_int_equal(vcpu->watch.hits, 0);
	assert_false(vcpu->stepping);
}

/* What C reads and writes, whatever of it lies in the page that is watched. */
static void test_memory(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 value = 5;

	mode_64(vcpu, 0);
	/* There are tags already: they must go. */
	assert_true(mem_write(vcpu, DATA, &value, 8, ACCESS_WRITE));
	assert_non_null(mem_direct(vcpu, DATA, ACCESS_WRITE));
	set_dr(f, 0, DATA);
	set_dr(f, 7, point(0, DR_RW_WRITE, DR_LEN_4));
	assert_int_equal(debug_page(vcpu, DATA + PAGE_SIZE - 1), WATCH_WRITE);
	assert_int_equal(debug_page(vcpu, DATA + PAGE_SIZE), 0);
	assert_int_equal(debug_page(vcpu, DATA - 1), 0);
	assert_null(mem_direct(vcpu, DATA + 8, ACCESS_WRITE));
	assert_non_null(mem_direct(vcpu, DATA + 8, ACCESS_READ));

	assert_true(mem_read(vcpu, DATA, &value, 8, ACCESS_READ));
	assert_true(mem_write(vcpu, DATA + 4, &value, 8, ACCESS_WRITE));
	assert_int_equal(vcpu->watch.hits, 0);
	value = 0x1122334455667788;
	assert_true(mem_write(vcpu, DATA - 5, &value, 8, ACCESS_WRITE));
	assert_int_equal(vcpu->watch.hits, DR_TRAP0);
	assert_int_equal(get64(f, DATA - 5), value);
	assert_true(vcpu->ctx.poll & POLL_DEBUG);

	vcpu->watch.hits = 0;
	set_dr(f, 7, point(0, DR_RW_READ, DR_LEN_4));
	assert_null(mem_direct(vcpu, DATA + 8, ACCESS_READ));
	value = 0;
	assert_true(mem_read(vcpu, DATA - 5, &value, 8, ACCESS_READ));
	assert_int_equal(value, 0x1122334455667788);
	assert_int_equal(vcpu->watch.hits, DR_TRAP0);

	set_dr(f, 7, 0);
	assert_non_null(mem_direct(vcpu, DATA + 8, ACCESS_WRITE));
}

/* From translated code: only an instruction that is alone can be heard of when it is over. */
static void test_postpone(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_64(vcpu, 0);
	set_dr(f, 0, DATA);
	set_dr(f, 7, point(0, DR_RW_WRITE, DR_LEN_4));
	assert_false(debug_postpone(vcpu, DATA + 4, 4, WATCH_WRITE));
	assert_false(vcpu->watch.again);
	assert_true(debug_postpone(vcpu, DATA, 4, WATCH_WRITE));
	assert_true(vcpu->watch.again);
	assert_int_equal(vcpu->watch.hits, 0);
	vcpu->watch.alone = true;
	assert_false(debug_postpone(vcpu, DATA, 4, WATCH_WRITE));
	assert_int_equal(vcpu->watch.hits, DR_TRAP0);
}

/* INIT takes them away. */
static void test_init(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	set_dr(f, 0, DATA);
	set_dr(f, 7, point(0, DR_RW_WRITE, DR_LEN_4));
	f->vcpu->watch.hits = DR_TRAP0;
	vcpu_init(f->vcpu);
	assert_int_equal(f->vcpu->watch.armed, 0);
	assert_int_equal(f->vcpu->watch.hits, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_registers), TEST(test_general_detect), TEST(test_lengths),
		TEST(test_kinds),     TEST(test_code),		 TEST(test_behind),
		TEST(test_memory),    TEST(test_postpone),	 TEST(test_init),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
