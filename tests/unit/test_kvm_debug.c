/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The KVM engine's side of a debugger, in front of a KVM that is only this file: ioctl() is ours
 * here, and writes down what is asked. Where there is no KVM, or one whose processor is emulated,
 * this is what says whether debug registers are filled as the Intel SDM has it, whether int3 is
 * written and taken back, and who gets which exception. The loop around it all is kvm.c's, and runs
 * in the system tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "board/board.h"
#include "engine/kvm/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ioctl(int fd, unsigned long request, ...);

#define VCPUS	   2
#define VECTOR_DB  1
#define VECTOR_BP  3
#define DR6_UNUSED 0xffff0ff0u
#define DR6_BS	   (1u << 14)
#define INT3	   0xcc
#define CR0_PG	   (1u << 31)

/* Where gpa 0x5000 is seen, by page tables at 0x1000. */
#define VIRTUAL 0xffffffff81000000ull
#define CODE	0x5000

/* What this KVM was asked, and says. A vCPU's descriptor is its number. */
static struct {
	struct kvm_guest_debug debug[VCPUS];
	struct kvm_debugregs debugregs;
	struct kvm_sregs sregs;
	u32 mp_state;
} asked;

static struct machine machine;
static struct board board;
static struct kvm *kvm;
static struct kvm_run *runs[VCPUS];
static struct debug_stop last;
static unsigned stops;
static unsigned waits, patience; /* 0: it has no end */

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *argument;

	va_start(args, request);
	argument = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case KVM_SET_GUEST_DEBUG:
		memcpy(&asked.debug[fd], argument, sizeof(asked.debug[fd]));
		return 0;
	case KVM_GET_DEBUGREGS:
		memcpy(argument, &asked.debugregs, sizeof(asked.debugregs));
		return 0;
	case KVM_SET_DEBUGREGS:
		memcpy(&asked.debugregs, argument, sizeof(asked.debugregs));
		return 0;
	case KVM_GET_SREGS:
		memcpy(argument, &asked.sregs, sizeof(asked.sregs));
		return 0;
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)argument)->mp_state = asked.mp_state;
		return 0;
	case KVM_CHECK_EXTENSION:
		return KVM_GUESTDBG_BLOCKIRQ;
	default:
		errno = EINVAL;
		return -1;
	}
}

static void stopped(struct debugger *debugger, const struct debug_stop *stop)
{
	(void)debugger;
	last = *stop;
	stops++;
}

static bool waiting(struct debugger *debugger)
{
	(void)debugger;
	return ++waits != patience;
}

static struct debugger debugger = {.stopped = stopped, .waiting = waiting};

static u8 *ram(u64 gpa)
{
	return memory_at(board.memory, gpa, 1);
}

static void set_entry(u64 table, unsigned index, u64 value)
{
	memcpy(ram(table + 8 * index), &value, sizeof(value));
}

static int set_up(void **state)
{
	struct problem why;

	(void)state;
	memset(&asked, 0, sizeof(asked));
	stops = waits = patience = 0;
	machine_init(&machine);
	board.machine = &machine;
	board.memory = memory_new(MiB(4), &why);
	kvm = calloc(1, sizeof(*kvm) + VCPUS * sizeof(kvm->vcpus[0]));
	assert_non_null(kvm);
	assert_non_null(board.memory);
	kvm->engine.board = &board;
	kvm->vcpu_count = kvm->vcpus_added = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++) {
		runs[i] = calloc(1, sizeof(*runs[i]));
		assert_non_null(runs[i]);
		kvm->vcpus[i] =
			(struct kvm_vcpu){.fd = (int)i, .run = runs[i], .action = DEBUG_RUN};
	}
	kvm_debug_init(kvm);
	kvm_debug.attach(&kvm->engine, &debugger);
	asked.sregs.cr0 = CR0_PG;
	asked.sregs.cr4 = 1 << 5;
	asked.sregs.efer = 1 << 10;
	asked.sregs.cr3 = 0x1000;
	set_entry(0x1000, 511, 0x2001);
	set_entry(0x2000, 510, 0x3001);
	set_entry(0x3000, 8, 0x4001);
	set_entry(0x4000, 0, CODE | 1);
	memset(ram(CODE), 0x90, PAGE_SIZE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	kvm_debug_destroy(kvm);
	for (unsigned i = 0; i < VCPUS; i++)
		free(runs[i]);
	free(kvm);
	memory_free(board.memory);
	machine_destroy(&machine);
	return 0;
}

static int add(enum debug_point_kind kind, u64 address, u64 length)
{
	const struct debug_point point = {kind, address, length};

	return kvm_debug.add_point(&kvm->engine, 0, &point);
}

static void take_away(enum debug_point_kind kind, u64 address, u64 length)
{
	const struct debug_point point = {kind, address, length};

	kvm_debug.remove_point(&kvm->engine, &point);
}

static void resume(enum debug_action first, enum debug_action second)
{
	kvm_debug.resume(&kvm->engine, (const enum debug_action[]){first, second});
}

/* vCPU 0 comes back from the guest with that. */
static void meet(u32 exception, u64 pc, u64 dr6)
{
	runs[0]->debug.arch = (struct kvm_debug_exit_arch){
		.exception = exception,
		.pc = pc,
		.dr6 = DR6_UNUSED | dr6,
	};
	kvm_debug_exit(kvm, 0);
}

static void test_registers(void **state)
{
	const struct kvm_guest_debug *debug = &asked.debug[1];

	(void)state;
	assert_int_equal(add(DEBUG_CODE_HARD, VIRTUAL, 1), 0);
	assert_int_equal(add(DEBUG_WRITE, 0x1008, 8), 0);
	assert_int_equal(add(DEBUG_ACCESS, 0x2004, 4), 0);
	assert_int_equal(add(DEBUG_ACCESS, 0x3002, 2), 0);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 1), -ENOSPC);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(debug->control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	assert_true(debug->arch.debugreg[0] == VIRTUAL);
	assert_true(debug->arch.debugreg[1] == 0x1008 && debug->arch.debugreg[2] == 0x2004);
	assert_true(debug->arch.debugreg[3] == 0x3002);
	/* Enabled globally; execute; write of 8; access of 4; access of 2. */
	assert_int_equal(debug->arch.debugreg[7] & 0xff, 0xaa);
	assert_int_equal(debug->arch.debugreg[7] >> 16, 0x7f90);
	take_away(DEBUG_WRITE, 0x1008, 8);
	assert_int_equal(add(DEBUG_WRITE, 0x4000, 1), 0);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_true(debug->arch.debugreg[1] == 0x4000);
	assert_int_equal(debug->arch.debugreg[7] >> 16, 0x7f10);
	take_away(DEBUG_CODE_HARD, VIRTUAL, 1);
	take_away(DEBUG_WRITE, 0x4000, 1);
	take_away(DEBUG_ACCESS, 0x2004, 4);
	take_away(DEBUG_ACCESS, 0x3002, 2);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(debug->control, 0);
}

/* A register watches what is aligned: more takes several of them. */
static void test_pieces(void **state)
{
	const __u64 *registers = asked.debug[0].arch.debugreg;

	(void)state;
	assert_int_equal(add(DEBUG_WRITE, 0x1001, 15), 0); /* 1, 2, 4, 8 */
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_true(registers[0] == 0x1001 && registers[1] == 0x1002);
	assert_true(registers[2] == 0x1004 && registers[3] == 0x1008);
	assert_int_equal(registers[7] >> 16, 0x9d51);
	assert_int_equal(add(DEBUG_CODE_HARD, 0, 1), -ENOSPC);
	/* What is told is where it was, and of the point as it was added. */
	meet(VECTOR_DB, VIRTUAL, 1 << 2);
	assert_int_equal(last.reason, DEBUG_WATCHED);
	assert_true(last.point.address == 0x1004 && last.point.kind == DEBUG_WRITE);
	take_away(DEBUG_WRITE, 0x1001, 15);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 33), -ENOSPC);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, ~0ull), -ENOSPC);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 32), 0);
}

static void test_int3(void **state)
{
	u8 bytes[4];

	(void)state;
	assert_int_equal(add(DEBUG_CODE, VIRTUAL + 1, 1), 0);
	assert_int_equal(*ram(CODE + 1), INT3);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(asked.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP);
	/* The debugger does not see it, and writes below it. */
	assert_int_equal(kvm_debug.read(&kvm->engine, CODE, bytes, 4), 0);
	assert_memory_equal(bytes, "\x90\x90\x90\x90", 4);
	assert_int_equal(kvm_debug.write(&kvm->engine, CODE, "\x01\x02\x03", 3), 0);
	assert_memory_equal(ram(CODE), "\x01\xcc\x03\x90", 4);
	assert_int_equal(kvm_debug.read(&kvm->engine, CODE + 1, bytes, 1), 0);
	assert_int_equal(bytes[0], 2);

	meet(VECTOR_BP, VIRTUAL + 1, 0);
	assert_int_equal(last.reason, DEBUG_AT_CODE);
	assert_true(last.point.kind == DEBUG_CODE && last.point.address == VIRTUAL + 1);
	assert_int_equal(kvm->vcpus[0].action, DEBUG_STAY);
	assert_int_equal(runs[0]->immediate_exit, 1);
	take_away(DEBUG_CODE, VIRTUAL + 1, 1);
	assert_memory_equal(ram(CODE), "\x01\x02\x03\x90", 4);
	assert_int_equal(kvm_debug.read(&kvm->engine, MiB(8), bytes, 1), -EFAULT);
	assert_int_equal(kvm_debug.write(&kvm->engine, MiB(8), bytes, 1), -EFAULT);
}

/* Two names for one place: the last who goes takes the int3 along. */
static void test_int3_twice(void **state)
{
	(void)state;
	set_entry(0x4000, 1, CODE | 1);
	for (unsigned first = 0; first < 2; first++) {
		assert_int_equal(add(DEBUG_CODE, VIRTUAL, 1), 0);
		assert_int_equal(add(DEBUG_CODE, VIRTUAL + PAGE_SIZE, 1), 0);
		take_away(DEBUG_CODE, VIRTUAL + first * PAGE_SIZE, 1);
		assert_int_equal(*ram(CODE), INT3);
		take_away(DEBUG_CODE, VIRTUAL + !first * PAGE_SIZE, 1);
		assert_int_equal(*ram(CODE), 0x90);
	}
}

/* The guest has put something else there: that is what is seen, and what remains. */
static void test_int3_lost(void **state)
{
	u8 byte;

	(void)state;
	assert_int_equal(add(DEBUG_CODE, VIRTUAL, 1), 0);
	*ram(CODE) = 0x55;
	assert_int_equal(kvm_debug.read(&kvm->engine, CODE, &byte, 1), 0);
	assert_int_equal(byte, 0x55);
	take_away(DEBUG_CODE, VIRTUAL, 1);
	assert_int_equal(*ram(CODE), 0x55);
}

/* Nothing is there yet: a debug register, as long as there is one. */
static void test_int3_nowhere(void **state)
{
	(void)state;
	for (unsigned i = 0; i < KVM_DEBUG_REGISTERS; i++)
		assert_int_equal(add(DEBUG_CODE, 0x7000 + i, 1), 0);
	assert_int_equal(add(DEBUG_CODE, 0x8000, 1), -EFAULT);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(asked.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
	meet(VECTOR_DB, 0x7002, 1 << 2);
	assert_int_equal(last.reason, DEBUG_AT_CODE);
	assert_true(last.point.kind == DEBUG_CODE && last.point.address == 0x7002);
	take_away(DEBUG_CODE, 0x7002, 1);
	assert_int_equal(add(DEBUG_CODE, 0x8000, 1), 0);
}

static void test_given_back(void **state)
{
	(void)state;
	assert_int_equal(add(DEBUG_CODE, VIRTUAL, 1), 0);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 8), 0);
	resume(DEBUG_RUN, DEBUG_RUN);
	meet(VECTOR_BP, VIRTUAL + 8, 0);
	assert_int_equal(asked.debug[0].control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP |
							 KVM_GUESTDBG_USE_HW_BP |
							 KVM_GUESTDBG_INJECT_BP);
	/* At an address where there is nothing at all: certainly not ours. */
	meet(VECTOR_BP, 0x1234, 0);
	/* Its own single step. */
	meet(VECTOR_DB, VIRTUAL, DR6_BS);
	assert_true(asked.debug[0].control & KVM_GUESTDBG_INJECT_DB);
	assert_int_equal(asked.debugregs.dr6, DR6_BS);
	assert_int_equal(stops, 0);
	assert_int_equal(kvm->vcpus[0].action, DEBUG_RUN);
}

static void test_steps(void **state)
{
	const u32 step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;

	(void)state;
	resume(DEBUG_STEP, DEBUG_STAY);
	assert_int_equal(asked.debug[0].control, step | KVM_GUESTDBG_BLOCKIRQ);
	meet(VECTOR_DB, VIRTUAL, DR6_BS);
	assert_int_equal(stops, 1);
	assert_int_equal(last.reason, DEBUG_STEPPED);
	assert_int_equal(last.vcpu, 0);
	/* What waits for an interrupt gets one. */
	asked.mp_state = KVM_MP_STATE_HALTED;
	resume(DEBUG_STEP, DEBUG_STAY);
	assert_int_equal(asked.debug[0].control, step);
	/* It was told to stop in the middle of it: the step is ours nevertheless. */
	kvm_debug.pause(&kvm->engine);
	meet(VECTOR_DB, VIRTUAL, DR6_BS);
	assert_int_equal(stops, 2);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(asked.debug[0].control, 0);
	/* A watchpoint that was hit by it is what matters. */
	assert_int_equal(add(DEBUG_ACCESS, 0x1000, 8), 0);
	resume(DEBUG_STEP, DEBUG_RUN);
	meet(VECTOR_DB, VIRTUAL, DR6_BS | 1);
	assert_int_equal(last.reason, DEBUG_WATCHED);
}

static void test_forgets(void **state)
{
	(void)state;
	assert_int_equal(add(DEBUG_CODE, VIRTUAL, 1), 0);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 32), 0);
	kvm_debug_forget(kvm);
	resume(DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(asked.debug[0].control, 0);
	assert_int_equal(add(DEBUG_WRITE, 0x1000, 32), 0);
}

/* A vCPU's thread, as kvm.c has it: KVM_RUN says EINTR each time. */
static void *vcpu_main(void *opaque)
{
	const unsigned index = *(const unsigned *)opaque;

	kvm_debug_enter(kvm, index);
	while (machine_running(&machine))
		kvm_debug_gate(kvm, index);
	kvm_debug_leave(kvm, index);
	return NULL;
}

/* Each pause finds them all stopped; the end of the machine finds nobody left behind. */
static void test_gate(void **state)
{
	const unsigned numbers[VCPUS] = {0, 1};
	pthread_t threads[VCPUS];

	(void)state;
	kvm_debug.pause(&kvm->engine);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_create(&threads[i], NULL, vcpu_main, (void *)&numbers[i]);
	for (unsigned round = 0; round < 1000; round++) {
		kvm_debug.pause(&kvm->engine);
		pthread_mutex_lock(&kvm->debug.lock);
		for (unsigned i = 0; i < VCPUS; i++)
			assert_true(!kvm->vcpus[i].in_run || kvm->vcpus[i].stopped);
		pthread_mutex_unlock(&kvm->debug.lock);
		resume(round & 1 ? DEBUG_RUN : DEBUG_STAY, DEBUG_RUN);
	}
	kvm_debug.pause(&kvm->engine);
	machine_stop(&machine, EXIT_POWERED_OFF, NULL);
	kvm_debug_wake(kvm);
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(threads[i], NULL);
	kvm_debug.pause(&kvm->engine);
}

/* ------------------------------------------------------------------ page tables of every kind */

/* One is in run(), and waits there for something that does not come. */
static void test_patience(void **state)
{
	(void)state;
	patience = 2;
	kvm_debug_enter(kvm, 0);
	kvm_debug.pause(&kvm->engine);
	assert_int_equal(waits, 2);
	/* It shall stop all the same. */
	assert_int_equal(kvm->vcpus[0].action, DEBUG_STAY);
	kvm_debug_leave(kvm, 0);
	kvm_debug.pause(&kvm->engine);
	assert_int_equal(waits, 2);
}

static u64 walk(const struct cpu_state *state, u64 address)
{
	u64 gpa;

	return debug_walk(board.memory, state, address, &gpa) ? ~0ull : gpa;
}

static void test_walk(void **state)
{
	struct cpu_state cpu = {.cr0 = CR0_PG, .cr4 = 1 << 5, .cr3 = 0x1000, .efer = 1 << 10};

	(void)state;
	assert_true(walk(&cpu, VIRTUAL + 0x123) == CODE + 0x123);
	assert_true(walk(&cpu, VIRTUAL + PAGE_SIZE) == ~0ull);
	set_entry(0x3000, 9, 0x200083); /* 2 MiB */
	assert_true(walk(&cpu, VIRTUAL + 0x234567) == 0x234567);
	set_entry(0x2000, 511, 0x40000083); /* 1 GiB, and what follows is no RAM */
	assert_true(walk(&cpu, 0xffffffffc0001000) == 0x40001000);
	set_entry(0x1000, 0, MiB(64) | 1);
	assert_true(walk(&cpu, 0x1000) == ~0ull);
	/* Five levels: one more on top. */
	cpu.cr4 |= 1 << 12;
	cpu.cr3 = 0x6000;
	set_entry(0x6000, 511, 0x1001);
	assert_true(walk(&cpu, VIRTUAL + 1) == CODE + 1);

	/* PAE: four entries, anywhere in a page; addresses of 32 bits. */
	cpu = (struct cpu_state){.cr0 = CR0_PG, .cr4 = 1 << 5, .cr3 = 0x7020};
	set_entry(0x7020, 2, 0x3001);
	assert_true(walk(&cpu, 0xffffffff00000000 | 0x81000005) == CODE + 5);
	assert_true(walk(&cpu, 0x81234567) == 0x234567);
	assert_true(walk(&cpu, 0x1000) == ~0ull);

	/* Two levels, entries of 4 bytes, pages of 4 MiB if CR4.PSE says so. */
	cpu = (struct cpu_state){.cr0 = CR0_PG, .cr3 = 0x8000};
	memcpy(ram(0x8000 + 4), &(u32){0x9001}, 4);
	memcpy(ram(0x9000 + 4 * 2), &(u32){CODE | 1}, 4);
	assert_true(walk(&cpu, 0x402004) == CODE + 4);
	memcpy(ram(0x8000 + 8), &(u32){0x00c02083}, 4);
	assert_true(walk(&cpu, 0x800000) == ~0ull);
	cpu.cr4 = 1 << 4;
	assert_true(walk(&cpu, 0x812345) == 0x100c12345);

	cpu.cr0 = 0;
	assert_true(walk(&cpu, 0x812345) == 0x812345);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_registers),  CASE(test_pieces),    CASE(test_int3),
		CASE(test_int3_twice), CASE(test_int3_lost), CASE(test_int3_nowhere),
		CASE(test_given_back), CASE(test_steps),     CASE(test_forgets),
		CASE(test_gate),       CASE(test_walk),	     CASE(test_patience),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
