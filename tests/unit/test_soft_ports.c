/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of the soft engine: a device that writes down what it is asked and told,
 * and who may ask.
 */
#include "soft_vcpu.h"

static struct insn port_insn(u8 opcode, unsigned opsize)
{
	struct insn insn = plain;

	insn.opcode = opcode;
	insn.opsize = opsize;
	return insn;
}

#define IN_IMM	0xe4
#define OUT_IMM 0xe6
#define IN_DX	0xec
#define OUT_DX	0xee
#define INS	0x6c
#define OUTS	0x6e
#define WIDE	1

static void test_in_out(void **state)
{
	struct fixture *f = *state;
	u64 *gpr = f->vcpu->ctx.gpr;
	struct insn insn;

	mode_64(f->vcpu, 0);
	gpr[RDX] = 0xffff0000 | (PORT_BASE + 4);
	gpr[RAX] = ~0ull;
	assert_done(f, system_in, port_insn(IN_DX, 1));
	assert_int_equal(gpr[RAX], 0xffffffffffffff88);
	assert_int_equal(f->log.offset, 4);
	assert_int_equal(f->log.len, 1);
	assert_done(f, system_in, port_insn(IN_DX | WIDE, 2));
	assert_int_equal(gpr[RAX], 0xffffffffffff7789);
	assert_int_equal(f->log.len, 2);
	assert_done(f, system_in, port_insn(IN_DX | WIDE, 8)); /* REX.W: still four bytes */
	assert_int_equal(gpr[RAX], 0x5566778a);
	assert_int_equal(f->log.len, 4);

	gpr[RAX] = 0x8877665544332211;
	assert_done(f, system_out, port_insn(OUT_DX, 1));
	assert_int_equal(f->log.value, 0x11);
	assert_done(f, system_out, port_insn(OUT_DX | WIDE, 2));
	assert_int_equal(f->log.value, 0x2211);
	assert_done(f, system_out, port_insn(OUT_DX | WIDE, 4));
	assert_int_equal(f->log.value, 0x44332211);
	assert_int_equal(f->log.offset, 4);

	/* Nobody there; and a port number is a byte without a sign. */
	bus_remove(f->board.bus, PORT, &f->region);
	f->region.base = 0xe0;
	bus_add(f->board.bus, PORT, &f->region);
	assert_done(f, system_in, port_insn(IN_DX, 1));
	assert_int_equal(gpr[RAX] & 0xff, 0xff);
	insn = port_insn(IN_IMM, 1);
	insn.immediate = ~0ull << 8 | 0xf2;
	assert_done(f, system_in, insn);
	assert_int_equal(f->log.offset, 0x12);
	assert_int_equal(f->vcpu->stats.port_reads, 5);
	assert_int_equal(f->vcpu->stats.port_writes, 3);
}

static void test_port_privilege(void **state)
{
	const u16 map = 104;
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u8 *tss = f->ram + TSS;

	mode_64(vcpu, 3);
	vcpu->ctx.gpr[RDX] = PORT_BASE;
	vcpu->tr = (struct segment){
		.base = TSS, .limit = map + 0x1fff, .type = SYSTEM_TSS_BUSY, .present = true};
	memset(tss + map, 0xff, 0x2000);
	memcpy(tss + 102, &map, sizeof(map));
	assert_error(f, system_in, port_insn(IN_DX, 1), VECTOR_GP, 0);
	assert_error(f, system_outs, port_insn(OUTS, 1), VECTOR_GP, 0);
	set_iopl(vcpu, 3);
	assert_done(f, system_in, port_insn(IN_DX, 1));
	set_iopl(vcpu, 2);
	/* One bit, one byte; all bits, all bytes; from the next byte of the map, too. */
	tss[map + PORT_BASE / 8] = 0xfc;
	assert_done(f, system_in, port_insn(IN_DX, 1));
	assert_done(f, system_in, port_insn(IN_DX | WIDE, 2));
	assert_error(f, system_in, port_insn(IN_DX | WIDE, 4), VECTOR_GP, 0);
	tss[map + PORT_BASE / 8] = 0x3f;
	tss[map + PORT_BASE / 8 + 1] = 0xfe;
	vcpu->ctx.gpr[RDX] = PORT_BASE + 6;
	assert_done(f, system_out, port_insn(OUT_DX | WIDE, 2));
	assert_error(f, system_out, port_insn(OUT_DX | WIDE, 4), VECTOR_GP, 0);
	tss[map + PORT_BASE / 8 + 1] = 0xfc;
	assert_done(f, system_out, port_insn(OUT_DX | WIDE, 4));
	/* The processor reads two bytes: both must be within the limit. */
	vcpu->tr.limit = map + PORT_BASE / 8;
	assert_error(f, system_out, port_insn(OUT_DX, 1), VECTOR_GP, 0);
	vcpu->tr.limit++;
	assert_done(f, system_out, port_insn(OUT_DX, 1));
	vcpu->tr.limit = 102;
	assert_error(f, system_out, port_insn(OUT_DX, 1), VECTOR_GP, 0);
	vcpu->tr.limit = 0xffff;
	vcpu->tr.present = false;
	assert_error(f, system_out, port_insn(OUT_DX, 1), VECTOR_GP, 0);
	/* The map is read as the system, and may be missing. */
	vcpu->tr = (struct segment){
		.base = ABSENT, .limit = 0xffff, .type = SYSTEM_TSS_BUSY, .present = true};
	assert_fault(f, system_out, port_insn(OUT_DX, 1), VECTOR_PF);
	assert_int_equal(vcpu->exception.error & PTE_USER & ~3u, 0); /* not a user's */
	mode_real(vcpu);
	assert_done(f, system_out, port_insn(OUT_DX, 1));
}

static struct insn string_insn(u8 opcode, unsigned opsize, u8 repeat)
{
	struct insn insn = port_insn(opcode, opsize);

	insn.repeat = repeat;
	return insn;
}

static void test_ins(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *gpr = vcpu->ctx.gpr;
	struct insn insn = string_insn(INS | WIDE, 4, 0xf3);

	mode_64(vcpu, 0);
	gpr[RDX] = PORT_BASE;
	gpr[RDI] = DATA;
	gpr[RCX] = 3;
	assert_done(f, system_ins, insn);
	assert_int_equal(gpr[RCX], 0);
	assert_int_equal(gpr[RDI], DATA + 12);
	assert_int_equal(get64(f, DATA), 0x5566778955667788);
	assert_int_equal(get64(f, DATA + 8), 0x5566778a);
	/* None at all; and one, without a prefix. */
	assert_done(f, system_ins, insn);
	assert_int_equal(f->log.reads, 3);
	insn.repeat = 0;
	assert_done(f, system_ins, insn);
	assert_int_equal(gpr[RCX], 0);
	assert_int_equal(gpr[RDI], DATA + 16);

	/* Two go well; for the third there is no memory, and the port is not asked. */
	insn.repeat = 0xf3;
	gpr[RCX] = 5;
	gpr[RDI] = ABSENT - 8;
	assert_fault(f, system_ins, insn, VECTOR_PF);
	assert_int_equal(vcpu->exception.cr2, ABSENT);
	assert_int_equal(gpr[RCX], 3);
	assert_int_equal(gpr[RDI], ABSENT);
	assert_int_equal(f->log.reads, 6);
	gpr[RDI] = NON_CANONICAL;
	assert_error(f, system_ins, insn, VECTOR_GP, 0);

	/* Backwards, with 32 bits of address, below zero: that is where there is nothing. */
	assert_done(f, system_std, plain);
	insn.addrsize = 4;
	gpr[RCX] = 0x700000002;
	gpr[RDI] = 0xffffffff00000000;
	assert_fault(f, system_ins, insn, VECTOR_PF);
	assert_int_equal(vcpu->exception.cr2, 0xfffffffc);
	assert_int_equal(gpr[RCX], 1);
	assert_int_equal(gpr[RDI], 0xfffffffc);
}

static void test_outs(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *gpr = vcpu->ctx.gpr;
	struct insn insn = string_insn(OUTS | WIDE, 2, 0xf3);

	mode_64(vcpu, 0);
	put64(f, DATA, 0x4444333322221111);
	gpr[RDX] = PORT_BASE;
	gpr[RSI] = 0x1000;
	gpr[RCX] = 4;
	insn.segment = GS;
	vcpu->ctx.base[GS] = DATA - 0x1000;
	vcpu->ctx.base[DS] = 0x5000; /* does not count here */
	assert_done(f, system_outs, insn);
	assert_int_equal(f->log.writes, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f->log.written[i], 0x1111 * (i + 1));
	assert_int_equal(gpr[RSI], 0x1008);
	assert_int_equal(gpr[RCX], 0);

	/* Somebody wants us: after one at least, and anew from there. */
	gpr[RSI] = 0x1000;
	gpr[RCX] = 4;
	atomic_store(&vcpu->ctx.poll, POLL_INTERRUPT);
	assert_true(run(f, system_outs, insn));
	assert_int_equal(vcpu->ctx.rip, RIP);
	assert_int_equal(gpr[RCX], 3);
	assert_int_equal(gpr[RSI], 0x1002);
	atomic_store(&vcpu->ctx.poll, 0);
	machine_stop(&f->machine, 0, NULL);
	assert_true(run(f, system_outs, insn));
	assert_int_equal(vcpu->ctx.rip, RIP);
	assert_int_equal(gpr[RCX], 2);
	/* The last is the last. */
	gpr[RCX] = 1;
	assert_done(f, system_outs, insn);
	gpr[RSI] = ABSENT - vcpu->ctx.base[GS];
	gpr[RCX] = 1;
	assert_fault(f, system_outs, insn, VECTOR_PF);
	assert_int_equal(f->log.writes, 7);

	/* Real mode: 16 bits of everything, and a base. */
	mode_real(vcpu);
	vcpu->seg[DS].base = DATA - 0xfffe;
	vcpu_update_mode(vcpu);
	put64(f, DATA, 0x1234);
	put64(f, DATA - 0xfffe, 0x5678);
	insn.segment = DS;
	insn.addrsize = 2;
	gpr[RSI] = 0xfffe;
	gpr[RCX] = 0x10001;
	assert_done(f, system_outs, insn);
	assert_int_equal(gpr[RSI], 0);
	assert_int_equal(gpr[RCX], 0x10000);
	assert_int_equal(f->log.value, 0x1234);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_in_out),
		TEST(test_port_privilege),
		TEST(test_ins),
		TEST(test_outs),
	};

	return cmocka_run_group_tests_name("soft_ports", tests, NULL, NULL);
}
