/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page walks of the soft engine in the modes that are not long mode: two levels of
 * 32-bit entries, and PAE. Long mode is what every other guest uses, and
 * tests/guests/pagefaults.c takes apart.
 */
#include "soft_vcpu.h"

#define MSR_EFER 0xc0000080

/* Tables of their own, and the addresses that they are about. */
#define DIRECTORY  0x60000u
#define TABLE	   0x61000u
#define POINTERS   0x62020u /* PAE's four may begin at any 32 bytes */
#define LINEAR	   0xc0403000u
#define LARGE_4M   0xffc00000u
#define LARGE_2M   0xffe00000u
#define SOMEWHERE  0x30000u
#define MORE_THERE 0x31000u

#define P  1ull
#define W  2ull
#define U  4ull
#define A  0x20ull
#define D  0x40ull
#define PS 0x80ull
#define G  0x100ull
#define NX (1ull << 63)

#define ERROR_PRESENT  1u
#define ERROR_WRITE    2u
#define ERROR_USER     4u
#define ERROR_RESERVED 8u
#define ERROR_FETCH    16u

static void put32(struct fixture *f, u64 at, u32 value)
{
	memcpy(f->ram + at, &value, sizeof(value));
}

static u32 get32(struct fixture *f, u64 at)
{
	u32 value;

	memcpy(&value, f->ram + at, sizeof(value));
	return value;
}

/* Entries with all rights, for LINEAR at SOMEWHERE and the page behind it. */
static void mode_2_level(struct fixture *f, u64 cr4)
{
	mode_32(f->vcpu, 0);
	put32(f, DIRECTORY + (LINEAR >> 22) * 4, TABLE | P | W | U);
	put32(f, TABLE + (LINEAR >> 12) % 1024 * 4, SOMEWHERE | P | W | U);
	put32(f, TABLE + ((LINEAR >> 12) % 1024 + 1) * 4, MORE_THERE | P | W | U);
	put32(f, SOMEWHERE, 0xcafe);
	assert_true(write_cr(f, 4, cr4));
	assert_true(write_cr(f, 3, DIRECTORY | 0xfff));
	assert_true(write_cr(f, 0, f->vcpu->cr0 | X86_CR0_PG));
}

static void mode_pae(struct fixture *f, u64 cr4)
{
	mode_32(f->vcpu, 0);
	put64(f, POINTERS + 3 * 8, DIRECTORY | P);
	put64(f, DIRECTORY + (LINEAR >> 21) % 512 * 8, TABLE | P | W | U);
	put64(f, TABLE + (LINEAR >> 12) % 512 * 8, SOMEWHERE | P | W | U);
	put64(f, TABLE + ((LINEAR >> 12) % 512 + 1) * 8, MORE_THERE | P | W | U);
	put32(f, SOMEWHERE, 0xcafe);
	assert_true(write_cr(f, 4, cr4 | X86_CR4_PAE));
	assert_true(write_cr(f, 3, POINTERS | 0x1f));
	assert_true(write_cr(f, 0, f->vcpu->cr0 | X86_CR0_PG));
}

static u32 *entry_of(struct fixture *f, bool pae)
{
	return (u32 *)(f->ram + TABLE +
		       (pae ? (LINEAR >> 12) % 512 * 8 : (LINEAR >> 12) % 1024 * 4));
}

/* The error code of an access as its owner; 0: it was granted. A fault of one not present is 32. */
#define NOT_PRESENT 32u

static u32 access_as(struct fixture *f, unsigned cpl, u64 address, enum access access)
{
	struct vcpu *vcpu = f->vcpu;
	u32 error = 0;

	vcpu->cpl = cpl;
	vcpu_update_mode(vcpu);
	memset(&vcpu->exception, 0, sizeof(vcpu->exception));
	if (!mem_probe(vcpu, address, 4, access)) {
		assert_int_equal(vcpu->exception.vector, VECTOR_PF);
		assert_int_equal(vcpu->exception.cr2, address);
		error = vcpu->exception.error;
		if (!(error & ERROR_PRESENT))
			error |= NOT_PRESENT;
	}
	vcpu->cpl = 0;
	vcpu_update_mode(vcpu);
	return error;
}

static u64 where(struct fixture *f, u64 address)
{
	u64 gpa;

	assert_true(mmu_translate(f->vcpu, address, ACCESS_READ, &gpa));
	return gpa;
}

/* ------------------------------------------------------------------ both */

static void check_bits(struct fixture *f, bool pae)
{
	u32 *entry = entry_of(f, pae);
	u32 *directory =
		(u32 *)(f->ram + DIRECTORY + (pae ? (LINEAR >> 21) % 512 * 8 : (LINEAR >> 22) * 4));
	u32 value = 0;

	assert_int_equal(*entry & (A | D), 0);
	assert_true(mem_read(f->vcpu, LINEAR, &value, 4, ACCESS_READ));
	assert_int_equal(value, 0xcafe);
	assert_int_equal(*entry & (A | D), A);
	assert_int_equal(*directory & (A | D), A);
	value = 0xbeef;
	assert_true(mem_write(f->vcpu, LINEAR, &value, 4, 0));
	assert_int_equal(get32(f, SOMEWHERE), 0xbeef);
	assert_int_equal(*entry & (A | D), A | D);
	assert_int_equal(*directory & (A | D), A);
	/* Into the next page, which is elsewhere. */
	assert_true(mem_write(f->vcpu, LINEAR + PAGE_SIZE - 2, &(u32){0x12345678}, 4, 0));
	assert_int_equal(get32(f, SOMEWHERE + PAGE_SIZE - 4) >> 16, 0x5678);
	assert_int_equal(get32(f, MORE_THERE) & 0xffff, 0x1234);
}

static void check_rights(struct fixture *f, bool pae)
{
	u32 *entry = entry_of(f, pae);
	struct vcpu *vcpu = f->vcpu;

	*entry = SOMEWHERE | P | U;
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_WRITE), 0); /* without CR0.WP */
	assert_int_equal(access_as(f, 3, LINEAR, ACCESS_READ), 0);
	assert_int_equal(access_as(f, 3, LINEAR, ACCESS_WRITE),
			 ERROR_PRESENT | ERROR_WRITE | ERROR_USER);
	assert_true(write_cr(f, 0, vcpu->cr0 | X86_CR0_WP));
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_WRITE), ERROR_PRESENT | ERROR_WRITE);
	assert_true(write_cr(f, 4, vcpu->cr4 | X86_CR4_SMEP | X86_CR4_SMAP));
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), ERROR_PRESENT);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_FETCH), ERROR_PRESENT | ERROR_FETCH);
	assert_int_equal(access_as(f, 3, LINEAR, ACCESS_FETCH), 0);
	vcpu_set_rflags(vcpu, X86_EFLAGS_AC);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), 0);
	vcpu_set_rflags(vcpu, 0);
	*entry = SOMEWHERE | P | W;
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 3, LINEAR, ACCESS_READ), ERROR_PRESENT | ERROR_USER);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), 0);
	*entry = 0;
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), NOT_PRESENT);
	assert_int_equal(access_as(f, 3, LINEAR, ACCESS_WRITE),
			 NOT_PRESENT | ERROR_WRITE | ERROR_USER);
	/* No directory entry, or no pointer. */
	assert_int_equal(access_as(f, 0, 0, ACCESS_READ), NOT_PRESENT);
}

/* Addresses have 32 bits, and wrap. */
static void check_wrap(struct fixture *f)
{
	u64 gpa;

	assert_true(mmu_translate(f->vcpu, LINEAR | 1ull << 32, ACCESS_READ, &gpa));
	assert_int_equal(gpa, SOMEWHERE);
	assert_int_equal(*(u32 *)mem_direct(f->vcpu, LINEAR | 5ull << 32, ACCESS_READ), 0xcafe);
	assert_true(mem_write(f->vcpu, 0xfffffffe, &(u32){0x12345678}, 4, 0));
	assert_int_equal(get32(f, MORE_THERE) & 0xffff, 0x1234);
}

/* ------------------------------------------------------------------ 2 levels */

static void test_2_level(void **state)
{
	struct fixture *f = *state;

	mode_2_level(f, 0);
	check_bits(f, false);
	check_rights(f, false);
}

static void test_2_level_wrap(void **state)
{
	struct fixture *f = *state;

	mode_2_level(f, 0);
	put32(f, DIRECTORY + 1023 * 4, TABLE | P | W);
	put32(f, TABLE + 1023 * 4, SOMEWHERE | P | W);
	put32(f, DIRECTORY, TABLE | P | W);
	put32(f, TABLE, MORE_THERE | P | W);
	check_wrap(f);
}

/* 4 MiB, without CR4.PSE a table. */
static void test_4m_pages(void **state)
{
	struct fixture *f = *state;
	u64 at = DIRECTORY + (LARGE_4M >> 22) * 4;

	mode_2_level(f, 0);
	put32(f, at, TABLE | P | W | PS);
	put32(f, TABLE, SOMEWHERE | P | W);
	assert_int_equal(where(f, LARGE_4M + 5), SOMEWHERE + 5);
	put32(f, at, P | W | PS);
	assert_true(write_cr(f, 4, X86_CR4_PSE));
	assert_int_equal(where(f, LARGE_4M + SOMEWHERE), SOMEWHERE);
	assert_int_equal(access_as(f, 0, LARGE_4M, ACCESS_WRITE), 0);
	assert_int_equal(get32(f, at), P | W | PS | A | D);
	/* PSE-36: where there is no memory, but not reserved either. */
	put32(f, at, 0x12u << 13 | 0x40u << 22 | P | W | PS);
	tlb_flush(f->vcpu, true);
	assert_int_equal(where(f, LARGE_4M + 0x234567), 0x1210000000 + 0x234567);
	/* Bit 12 is the PAT's, bit 21 nobody's. */
	put32(f, at, 1u << 12 | P | W | PS);
	tlb_flush(f->vcpu, true);
	assert_int_equal(where(f, LARGE_4M), 0);
	put32(f, at, 1u << 21 | P | W | PS);
	tlb_flush(f->vcpu, true);
	assert_int_equal(access_as(f, 0, LARGE_4M, ACCESS_READ), ERROR_PRESENT | ERROR_RESERVED);
}

/* One INVLPG drops all of a large page, whichever half of it is named. */
static void test_4m_invlpg(void **state)
{
	static const u32 other[] = {0, MiB(2) + 0x7000, MiB(1)};
	struct fixture *f = *state;
	u64 at = DIRECTORY + (LARGE_4M >> 22) * 4;

	mode_2_level(f, X86_CR4_PSE);
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++) {
		tlb_flush(f->vcpu, true);
		put32(f, at, P | W | PS);
		assert_int_equal(where(f, LARGE_4M + SOMEWHERE), SOMEWHERE);
		assert_non_null(mem_direct(f->vcpu, LARGE_4M + SOMEWHERE, ACCESS_READ));
		put32(f, at, 0);
		tlb_flush_page(f->vcpu, LARGE_4M + other[i]);
		assert_int_equal(access_as(f, 0, LARGE_4M + SOMEWHERE, ACCESS_READ), NOT_PRESENT);
	}
}

/* ------------------------------------------------------------------ PAE */

static void test_pae(void **state)
{
	struct fixture *f = *state;

	mode_pae(f, 0);
	check_bits(f, true);
	check_rights(f, true);
}

static void test_pae_wrap(void **state)
{
	struct fixture *f = *state;

	mode_pae(f, 0);
	put64(f, DIRECTORY + 511 * 8, TABLE | P | W);
	put64(f, TABLE + 511 * 8, SOMEWHERE | P | W);
	put64(f, DIRECTORY, TABLE | P | W);
	put64(f, TABLE, MORE_THERE | P | W);
	put64(f, POINTERS, DIRECTORY | P);
	assert_true(write_cr(f, 3, POINTERS));
	check_wrap(f);
}

static void test_pae_large(void **state)
{
	struct fixture *f = *state;
	u64 at = DIRECTORY + 511 * 8;

	/* PAE does not care for CR4.PSE. */
	mode_pae(f, 0);
	put64(f, at, P | W | PS);
	assert_int_equal(where(f, LARGE_2M + SOMEWHERE), SOMEWHERE);
	for (unsigned bit = 13; bit <= 20; bit++) {
		put64(f, at, P | W | PS | 1u << bit);
		tlb_flush(f->vcpu, true);
		assert_int_equal(access_as(f, 0, LARGE_2M, ACCESS_READ),
				 ERROR_PRESENT | ERROR_RESERVED);
	}
}

static void test_pae_reserved(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *entry;

	mode_pae(f, 0);
	entry = (u64 *)entry_of(f, true);
	for (unsigned bit = cpuid_address_bits(); bit < 64; bit++) {
		*entry = SOMEWHERE | P | 1ull << bit;
		tlb_flush(vcpu, true);
		assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ),
				 ERROR_PRESENT | ERROR_RESERVED);
	}
	assert_true(msr_write(vcpu, MSR_EFER, EFER_NX));
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), 0);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_FETCH), ERROR_PRESENT | ERROR_FETCH);
	*entry &= ~NX;
	*(u64 *)(f->ram + DIRECTORY + (LINEAR >> 21) % 512 * 8) |= NX;
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_FETCH), ERROR_PRESENT | ERROR_FETCH);
	/* What is not there has no reserved bits. */
	*entry = ~P;
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), NOT_PRESENT);
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_FETCH), NOT_PRESENT | ERROR_FETCH);
}

/* The pointers are registers: memory may change, and it is the next load that may fault. */
static void test_pointers(void **state)
{
	static const u64 bad[] = {2, 4, 0x20, 0x40, 0x80, 0x100, 1ull << 46, NX};
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 cr0, cr3;

	mode_pae(f, 0);
	cr0 = vcpu->cr0;
	cr3 = vcpu->cr3;
	put64(f, POINTERS + 3 * 8, 0);
	tlb_flush(vcpu, true);
	assert_int_equal(where(f, LINEAR), SOMEWHERE);
	/* Writes that leave them alone. */
	assert_true(write_cr(f, 0, cr0 | X86_CR0_WP | X86_CR0_TS));
	assert_true(write_cr(f, 4, vcpu->cr4 | X86_CR4_PCE | X86_CR4_DE));
	tlb_flush(vcpu, true);
	assert_int_equal(where(f, LINEAR), SOMEWHERE);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		put64(f, POINTERS + 8, bad[i] | P);
		assert_false(write_cr(f, 3, POINTERS));
		assert_false(write_cr(f, 0, cr0 | X86_CR0_CD));
		assert_false(write_cr(f, 4, vcpu->cr4 ^ X86_CR4_PGE));
		assert_false(write_cr(f, 4, vcpu->cr4 ^ X86_CR4_PSE));
		assert_false(write_cr(f, 4, vcpu->cr4 ^ X86_CR4_SMEP));
		assert_int_equal(vcpu->cr3, cr3);
		assert_int_equal(where(f, LINEAR), SOMEWHERE);
		/* Of a pointer that is not there, nothing is reserved. */
		put64(f, POINTERS + 8, bad[i]);
		put64(f, POINTERS + 3 * 8, DIRECTORY | P);
		assert_true(write_cr(f, 3, cr3));
	}
	/* Bits 11..9 are free, 4 and 3 memory types. */
	put64(f, POINTERS + 3 * 8, DIRECTORY | 0xe18 | P);
	assert_true(write_cr(f, 4, vcpu->cr4 ^ X86_CR4_PGE));
	assert_int_equal(where(f, LINEAR), SOMEWHERE);
	put64(f, POINTERS + 3 * 8, 0);
	assert_true(write_cr(f, 4, vcpu->cr4 ^ X86_CR4_PGE));
	assert_int_equal(access_as(f, 0, LINEAR, ACCESS_READ), NOT_PRESENT);
	/* A table where nothing is reads as ones. */
	assert_false(write_cr(f, 3, RAM_SIZE));
	/* Paging is not switched on over bad ones, and PAE neither. */
	put64(f, POINTERS, 2 | P);
	assert_true(write_cr(f, 0, cr0 & ~X86_CR0_PG));
	assert_false(write_cr(f, 0, cr0));
	assert_false(vcpu->cr0 & X86_CR0_PG);
	assert_true(write_cr(f, 4, 0));
	assert_true(write_cr(f, 0, cr0));
	assert_false(write_cr(f, 4, X86_CR4_PAE));
	assert_int_equal(vcpu->cr4, 0);
}

/* Nothing is global without CR4.PGE; with it, what is survives a load of CR3. */
static void test_global(void **state)
{
	struct fixture *f = *state;
	u64 at = DIRECTORY + (LARGE_4M >> 22) * 4;

	mode_2_level(f, X86_CR4_PSE);
	for (unsigned global = 0; global < 2; global++) {
		put32(f, at, P | W | PS | G);
		assert_non_null(mem_direct(f->vcpu, LARGE_4M, ACCESS_READ));
		put32(f, at, 0);
		assert_true(write_cr(f, 3, DIRECTORY));
		assert_int_equal(!!mem_direct(f->vcpu, LARGE_4M, ACCESS_READ), global);
		assert_true(write_cr(f, 4, f->vcpu->cr4 ^ X86_CR4_PGE));
		assert_null(mem_direct(f->vcpu, LARGE_4M, ACCESS_READ));
	}
}

/* ------------------------------------------------------------------ protection keys */

#define SOME_KEY     9u
#define KEY(n)	     ((u64)(n) << 59)
#define NO_ACCESS(n) (1u << 2 * (n))
#define NO_WRITE(n)  (2u << 2 * (n))
#define ERROR_KEY    32u
#define DENIED(more) (ERROR_PRESENT | ERROR_KEY | (more))

static void wrpkru(struct fixture *f, u32 value)
{
	u64 *gpr = f->vcpu->ctx.gpr;

	gpr[RAX] = value;
	gpr[RCX] = gpr[RDX] = 0;
	assert_done(f, system_wrpkru, plain);
	gpr[RAX] = gpr[RDX] = ~0ull;
	assert_done(f, system_rdpkru, plain);
	assert_int_equal(gpr[RAX], value);
	assert_int_equal(gpr[RDX], 0);
}

static void test_key_instructions(void **state)
{
	struct fixture *f = *state;
	u64 *gpr = f->vcpu->ctx.gpr;

	mode_64(f->vcpu, 3);
	gpr[RAX] = gpr[RCX] = gpr[RDX] = 0;
	assert_fault(f, system_rdpkru, plain, VECTOR_UD);
	assert_fault(f, system_wrpkru, plain, VECTOR_UD);
	f->vcpu->cr4 |= X86_CR4_PKE;
	wrpkru(f, 0xdeadbeef);
	gpr[RCX] = 1;
	assert_error(f, system_rdpkru, plain, VECTOR_GP, 0);
	assert_error(f, system_wrpkru, plain, VECTOR_GP, 0);
	gpr[RCX] = ~0ull << 32;
	assert_done(f, system_rdpkru, plain);
	gpr[RDX] = 1;
	assert_error(f, system_wrpkru, plain, VECTOR_GP, 0);
	assert_int_equal(f->vcpu->pkru, 0xdeadbeef);
}

static void test_keys(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *entry = (u64 *)(f->ram + PT + DATA / PAGE_SIZE * 8);

	mode_64(vcpu, 0);
	*entry |= KEY(SOME_KEY) | D;
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), 0);
	vcpu->pkru = ~0u;
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), 0);
	assert_true(write_cr(f, 4, vcpu->cr4 | X86_CR4_PKE));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_READ), DENIED(ERROR_USER));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), DENIED(ERROR_USER | ERROR_WRITE));
	assert_int_equal(access_as(f, 0, DATA, ACCESS_READ), DENIED(0));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_FETCH), 0);
	/* Each write of PKRU counts at once, for what was allowed before, and what was not. */
	wrpkru(f, NO_WRITE(SOME_KEY));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_READ), 0);
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), DENIED(ERROR_USER | ERROR_WRITE));
	assert_int_equal(access_as(f, 0, DATA, ACCESS_WRITE), DENIED(ERROR_WRITE));
	wrpkru(f, ~(NO_WRITE(SOME_KEY) | NO_ACCESS(SOME_KEY)));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), 0);
	assert_int_equal(access_as(f, 0, DATA, ACCESS_WRITE), 0);
	wrpkru(f, NO_ACCESS(SOME_KEY));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_READ), DENIED(ERROR_USER));
	assert_int_equal(access_as(f, 0, DATA, ACCESS_WRITE), DENIED(ERROR_WRITE));
	/* Another key's bits do not matter, but key 0 is one like the others. */
	assert_int_equal(access_as(f, 3, STACK, ACCESS_WRITE), 0);
	wrpkru(f, NO_WRITE(0));
	assert_int_equal(access_as(f, 3, DATA, ACCESS_WRITE), 0);
	assert_int_equal(access_as(f, 3, STACK, ACCESS_WRITE), DENIED(ERROR_USER | ERROR_WRITE));
	/* Without CR0.WP the kernel writes; and what is not for users has no key. */
	assert_int_equal(access_as(f, 0, STACK, ACCESS_WRITE), DENIED(ERROR_WRITE));
	assert_true(write_cr(f, 0, vcpu->cr0 & ~X86_CR0_WP));
	assert_int_equal(access_as(f, 0, STACK, ACCESS_WRITE), 0);
	*entry &= ~U;
	wrpkru(f, ~0u);
	tlb_flush(vcpu, true);
	assert_int_equal(access_as(f, 0, DATA, ACCESS_WRITE), 0);
	assert_int_equal(access_as(f, 3, DATA, ACCESS_READ), ERROR_PRESENT | ERROR_USER);
	/* Missing pages have no key, either. */
	assert_int_equal(access_as(f, 3, ABSENT, ACCESS_READ), NOT_PRESENT | ERROR_USER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_2_level),
		TEST(test_2_level_wrap),
		TEST(test_4m_pages),
		TEST(test_4m_invlpg),
		TEST(test_pae),
		TEST(test_pae_wrap),
		TEST(test_pae_large),
		TEST(test_pae_reserved),
		TEST(test_pointers),
		TEST(test_global),
		TEST(test_key_instructions),
		TEST(test_keys),
	};

	return cmocka_run_group_tests_name("soft_paging", tests, NULL, NULL);
}
