/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine's side of a debugger: a vCPU that really runs, in a thread of its own,
 * a few instructions round and round; and a debugger that stops it, looks, changes its mind
 * for it, and lets it go. What the guest may see of breakpoints is in test_soft_debug.c.
 */
#include "soft_vcpu.h"

#include "engine/soft/fpu.h"

#include <errno.h>

/* One round of the guest's: how its instructions follow each other. */
static const u8 round_and_round[] = {
	0x48, 0xff, 0xc0, /* 1: inc %rax */
	0x48, 0x89, 0x03, /* mov %rax, (%rbx) */
	0x48, 0x8b, 0x13, /* mov (%rbx), %rdx */
	0xeb, 0xf5,	  /* jmp 1b */
};

#define AT_INC	 (u64) RIP
#define AT_STORE (RIP + 3ull)
#define AT_LOAD	 (RIP + 6ull)
#define AT_JUMP	 (RIP + 9ull)

struct outside {
	struct debugger debugger;
	struct fixture *f;
	struct engine *engine;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t told;
	unsigned stops, taken;
	unsigned waits, patience; /* 0: it has no end */
	struct debug_stop stop;
};

static void stopped(struct debugger *debugger, const struct debug_stop *stop)
{
	struct outside *outside = container_of(debugger, struct outside, debugger);

	pthread_mutex_lock(&outside->lock);
	outside->stop = *stop;
	outside->stops++;
	pthread_cond_signal(&outside->told);
	pthread_mutex_unlock(&outside->lock);
}

static bool waiting(struct debugger *debugger)
{
	struct outside *outside = container_of(debugger, struct outside, debugger);

	return ++outside->waits != outside->patience;
}

static void *live(void *vcpu)
{
	soft_vcpu_run(vcpu);
	return NULL;
}

static int set_up(void **state)
{
	struct outside *outside = calloc(1, sizeof(*outside));
	struct vcpu *vcpu;

	if (setup((void **)&outside->f))
		return -1;
	vcpu = outside->f->vcpu;
	outside->debugger = (struct debugger){.stopped = stopped, .waiting = waiting};
	pthread_mutex_init(&outside->lock, NULL);
	pthread_cond_init(&outside->told, NULL);
	outside->engine = &outside->f->soft->engine;
	memcpy(outside->f->ram + RIP, round_and_round, sizeof(round_and_round));
	mode_64(vcpu, 0);
	vcpu->ctx.rip = RIP;
	vcpu->ctx.gpr[RBX] = DATA;
	vcpu->waiting = false;
	soft_debug.attach(outside->engine, &outside->debugger);
	*state = outside;
	return 0;
}

static void start(struct outside *outside)
{
	assert_int_equal(pthread_create(&outside->thread, NULL, live, outside->f->vcpu), 0);
	outside->started = true;
}

static void end(struct outside *outside)
{
	machine_stop(&outside->f->machine, EXIT_POWERED_OFF, NULL);
	vcpu_kick(outside->f->vcpu, POLL_STOP);
	debugger_end(outside->f->soft);
	pthread_join(outside->thread, NULL);
	outside->started = false;
}

static int tear_down(void **state)
{
	struct outside *outside = *state;
	void *fixture = outside->f;

	if (outside->started)
		end(outside);
	teardown(&fixture);
	pthread_cond_destroy(&outside->told);
	pthread_mutex_destroy(&outside->lock);
	free(outside);
	return 0;
}

static void go(struct outside *outside, enum debug_action action)
{
	soft_debug.resume(outside->engine, &action);
}

/* As the stub does it: when somebody stops, all shall. */
static struct debug_stop wait_for_stop(struct outside *outside)
{
	pthread_mutex_lock(&outside->lock);
	while (outside->stops == outside->taken)
		pthread_cond_wait(&outside->told, &outside->lock);
	outside->taken++;
	assert_int_equal(outside->stops, outside->taken);
	pthread_mutex_unlock(&outside->lock);
	soft_debug.pause(outside->engine);
	return outside->stop;
}

static struct cpu_state look(struct outside *outside)
{
	struct cpu_state state;

	assert_int_equal(soft_debug.get_state(outside->engine, 0, &state), 0);
	return state;
}

static void expect_stop(struct outside *outside, enum debug_reason reason, u64 rip)
{
	struct debug_stop stop = wait_for_stop(outside);

	assert_int_equal(stop.vcpu, 0);
	assert_int_equal(stop.reason, reason);
	assert_int_equal(look(outside).rip, rip);
}

/* Stopped where a round begins, as if it had just been. */
static void start_at(struct outside *outside, u64 rip)
{
	struct cpu_state state;

	soft_debug.pause(outside->engine);
	start(outside);
	state = look(outside);
	state.rip = rip;
	assert_int_equal(soft_debug.set_state(outside->engine, 0, &state), 0);
}

static void test_pause(void **state)
{
	struct outside *outside = *state;
	u64 before = 0;

	/* Before it is there, as --gdb-wait has it: nothing is executed. */
	soft_debug.pause(outside->engine);
	start(outside);
	soft_debug.pause(outside->engine);
	assert_int_equal(look(outside).rip, AT_INC);
	for (unsigned i = 0; i < 20; i++) {
		struct cpu_state now;

		go(outside, DEBUG_RUN);
		do
			soft_debug.pause(outside->engine);
		while (look(outside).gpr[RAX] == before && (go(outside, DEBUG_RUN), true));
		now = look(outside);
		assert_true(now.rip == AT_INC || now.rip == AT_STORE || now.rip == AT_LOAD ||
			    now.rip == AT_JUMP);
		assert_true(now.gpr[RAX] > before);
		/* It does nothing meanwhile. */
		soft_debug.pause(outside->engine);
		assert_int_equal(look(outside).gpr[RAX], now.gpr[RAX]);
		before = now.gpr[RAX];
	}
	assert_int_equal(outside->stops, 0);
	/* The end comes to those who are stopped, too. */
	end(outside);
	soft_debug.pause(outside->engine);
}

static void test_step(void **state)
{
	static const u64 order[] = {AT_STORE, AT_LOAD, AT_JUMP, AT_INC};
	struct outside *outside = *state;

	/* Asked for before it is there. */
	soft_debug.pause(outside->engine);
	go(outside, DEBUG_STEP);
	start(outside);
	expect_stop(outside, DEBUG_STEPPED, AT_STORE);
	for (unsigned i = 1; i < 50; i++) {
		go(outside, DEBUG_STEP);
		expect_stop(outside, DEBUG_STEPPED, order[i % 4]);
	}
	assert_int_equal(look(outside).gpr[RAX], 13);
	/* An interrupt would lead nowhere: there is no table. But it waits. */
	outside->f->vcpu->nmi_pending = true;
	vcpu_kick(outside->f->vcpu, POLL_INTERRUPT);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, AT_JUMP);
	assert_true(outside->f->vcpu->nmi_pending);
	outside->f->vcpu->nmi_pending = false;
	/* Of a repeated one, each repetition: rep stosb. */
	memcpy(outside->f->ram + RIP + 0x100, "\xf3\xaa", 2);
	{
		struct cpu_state now = look(outside);

		now.rip = RIP + 0x100;
		now.gpr[RCX] = 2;
		now.gpr[RDI] = DATA;
		assert_int_equal(soft_debug.set_state(outside->engine, 0, &now), 0);
	}
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, RIP + 0x100);
	assert_int_equal(look(outside).gpr[RCX], 1);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, RIP + 0x102);
}

static void test_code(void **state)
{
	const struct debug_point store = {DEBUG_CODE, AT_STORE, 1};
	const struct debug_point jump = {DEBUG_CODE_HARD, AT_JUMP, 0};
	struct outside *outside = *state;
	u64 rax;

	/* The loop is translated, and knows its way without us. */
	start(outside);
	do {
		soft_debug.pause(outside->engine);
		rax = look(outside).gpr[RAX];
		go(outside, DEBUG_RUN);
	} while (rax < 1000);
	soft_debug.pause(outside->engine);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &store), 0);
	go(outside, DEBUG_RUN);
	expect_stop(outside, DEBUG_AT_CODE, AT_STORE);
	assert_memory_equal(&outside->stop.point, &store, sizeof(store));
	rax = look(outside).gpr[RAX];
	/* Again and again, until it is gone. */
	go(outside, DEBUG_RUN);
	expect_stop(outside, DEBUG_AT_CODE, AT_STORE);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_AT_CODE, AT_STORE);
	assert_int_equal(look(outside).gpr[RAX], rax);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &jump), 0);
	soft_debug.remove_point(outside->engine, &store);
	go(outside, DEBUG_RUN);
	expect_stop(outside, DEBUG_AT_CODE, AT_JUMP);
	assert_int_equal(look(outside).gpr[RAX], rax);
	/* Nobody can read it. */
	assert_memory_equal(outside->f->ram + RIP, round_and_round, sizeof(round_and_round));
	soft_debug.remove_point(outside->engine, &jump);
	assert_int_equal(outside->f->vcpu->watch.armed, 0);
	go(outside, DEBUG_RUN);
}

static void test_watch(void **state)
{
	const struct debug_point write = {DEBUG_WRITE, DATA + 3, 30};
	const struct debug_point access = {DEBUG_ACCESS, DATA - 8, 9};
	const struct debug_point beside = {DEBUG_ACCESS, DATA + 8, 1};
	struct outside *outside = *state;
	u64 rax;

	start_at(outside, AT_INC);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &beside), 0);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &write), 0);
	for (unsigned i = 1; i < 4; i++) {
		go(outside, DEBUG_RUN);
		expect_stop(outside, DEBUG_WATCHED, AT_LOAD);
		assert_int_equal(outside->stop.point.kind, DEBUG_WRITE);
		assert_int_equal(outside->stop.point.address, DATA + 3);
		assert_int_equal(look(outside).gpr[RAX], i);
		assert_int_equal(get64(outside->f, DATA), i);
	}
	soft_debug.remove_point(outside->engine, &write);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &access), 0);
	go(outside, DEBUG_RUN);
	expect_stop(outside, DEBUG_WATCHED, AT_JUMP);
	assert_int_equal(outside->stop.point.address, DATA);
	/* A step that has a better reason. */
	rax = look(outside).gpr[RAX];
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, AT_INC);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, AT_STORE);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_WATCHED, AT_LOAD);
	assert_int_equal(look(outside).gpr[RAX], rax + 1);
	soft_debug.remove_point(outside->engine, &access);
	soft_debug.remove_point(outside->engine, &beside);
	go(outside, DEBUG_RUN);
}

/* The guest's own breakpoint, beside ours: its handler is the loop. */
static void test_guest(void **state)
{
	const u64 gate = 0x80000 /* code */ | 0x8e0000000000ull | (RIP & 0xffff);
	const struct debug_point begin = {DEBUG_CODE, AT_INC, 1};
	struct outside *outside = *state;
	struct vcpu *vcpu = outside->f->vcpu;

	put64(outside->f, GDT + 8, 0x00af9b000000ffff);
	put64(outside->f, LDT + VECTOR_DB * 16, gate);
	vcpu->gdt = (struct descriptor_table){GDT, 15};
	vcpu->idt = (struct descriptor_table){LDT, 0xfff};
	start_at(outside, AT_STORE);
	vcpu->dr[0] = AT_LOAD;
	vcpu->dr[7] = 0x401;
	debug_update(vcpu);
	assert_int_equal(soft_debug.add_point(outside->engine, 0, &begin), 0);
	go(outside, DEBUG_RUN);
	expect_stop(outside, DEBUG_AT_CODE, AT_INC);
	assert_int_equal(vcpu->dr[6], 0xffff0ff1);
	assert_int_equal(get64(outside->f, look(outside).gpr[RSP]), AT_LOAD);
}

static void test_state(void **state)
{
	struct outside *outside = *state;
	struct cpu_state now, then;

	start_at(outside, AT_INC);
	now = look(outside);
	now.gpr[RAX] = 1000;
	now.gpr[15] = 15;
	now.rflags |= X86_EFLAGS_DF | X86_EFLAGS_CF;
	now.gs.base = 0x123456789000;
	now.kernel_gs_base = 0x777000;
	assert_int_equal(soft_debug.set_state(outside->engine, 0, &now), 0);
	then = look(outside);
	assert_memory_equal(&then, &now, sizeof(now));
	/* Not from under the guest's feet. */
	now.cr0 ^= X86_CR0_PG;
	now.gpr[RAX] = 2000;
	assert_int_equal(soft_debug.set_state(outside->engine, 0, &now), -EINVAL);
	now = then;
	now.cr3 = ~0ull;
	assert_int_equal(soft_debug.set_state(outside->engine, 0, &now), -EINVAL);
	now = then;
	now.rflags ^= X86_EFLAGS_VM;
	assert_int_equal(soft_debug.set_state(outside->engine, 0, &now), -EINVAL);
	assert_int_equal(look(outside).gpr[RAX], 1000);
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, AT_STORE);
	assert_int_equal(look(outside).gpr[RAX], 1001);
}

static void test_xsave(void **state)
{
	static struct debug_xsave xsave, again;
	struct image *image = (struct image *)(void *)xsave.area;
	struct outside *outside = *state;

	outside->f->soft->cpuid.xsave.components = COMPONENTS_ALWAYS;
	start_at(outside, AT_INC);
	assert_int_equal(soft_debug.get_xsave(outside->engine, 0, &xsave), 0);
	assert_int_equal(xsave.features, COMPONENTS_ALWAYS);
	memset(image->xmm, 0x5a, sizeof(image->xmm));
	memset(image->ymm_high, 0xa5, sizeof(image->ymm_high));
	image->xstate_bv = COMPONENT_SSE;
	image->mxcsr = 0x1f80;
	image->header[2] = 1; /* XRSTOR would not have that */
	image->xcomp_bv = 1;
	assert_int_equal(soft_debug.set_xsave(outside->engine, 0, &xsave), 0);
	/* Through the host's registers, and back. */
	go(outside, DEBUG_STEP);
	expect_stop(outside, DEBUG_STEPPED, AT_STORE);
	assert_int_equal(soft_debug.get_xsave(outside->engine, 0, &again), 0);
	image = (struct image *)(void *)again.area;
	assert_true(image->xstate_bv & COMPONENT_SSE);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(image->xmm[i][7], 0x5a);
		assert_int_equal(image->ymm_high[i][7], 0);
	}
	image->mxcsr = ~0u;
	assert_int_equal(soft_debug.set_xsave(outside->engine, 0, &again), -EINVAL);
	image->mxcsr = 0x1f80;
	image->xstate_bv = 1ull << 40;
	assert_int_equal(soft_debug.set_xsave(outside->engine, 0, &again), -EINVAL);
}

static void test_memory(void **state)
{
	struct outside *outside = *state;
	u8 bytes[4];
	u64 gpa = 0, rax, entry = PT + DATA / PAGE_SIZE * 8;

	put64(outside->f, entry, STACK | 1); /* not writable, a supervisor's, not accessed */
	put64(outside->f, entry + 8, (DATA + PAGE_SIZE) | PTE_USER);
	assert_int_equal(soft_debug.translate(outside->engine, 0, DATA + 5, &gpa), 0);
	assert_int_equal(gpa, STACK + 5);
	assert_int_equal(get64(outside->f, entry), STACK | 1);
	assert_int_equal(soft_debug.translate(outside->engine, 0, ABSENT, &gpa), -EFAULT);
	assert_int_equal(soft_debug.translate(outside->engine, 0, NON_CANONICAL, &gpa), -EFAULT);
	assert_int_equal(soft_debug.read(outside->engine, RAM_SIZE, bytes, 4), -EFAULT);
	assert_int_equal(soft_debug.write(outside->engine, RAM_SIZE, bytes, 4), -EFAULT);
	put64(outside->f, entry, DATA | PTE_USER);

	/* What it runs is rewritten: dec %rax. */
	start(outside);
	do {
		soft_debug.pause(outside->engine);
		rax = look(outside).gpr[RAX];
		go(outside, DEBUG_RUN);
	} while (rax < 1000);
	soft_debug.pause(outside->engine);
	assert_int_equal(soft_debug.read(outside->engine, RIP, bytes, 4), 0);
	assert_memory_equal(bytes, round_and_round, 4);
	assert_int_equal(soft_debug.write(outside->engine, RIP, "\x48\xff\xc8", 3), 0);
	rax = look(outside).gpr[RAX];
	do {
		go(outside, DEBUG_RUN);
		soft_debug.pause(outside->engine);
	} while (look(outside).gpr[RAX] == rax);
	assert_true((s64)look(outside).gpr[RAX] < (s64)rax); /* it may be far below 0 by now */
}

/* It is in run(), and waits there for something that does not come. */
static void test_patience(void **state)
{
	struct outside *outside = *state;
	struct held *held = &outside->f->vcpu->held;

	outside->patience = 2;
	held->inside = true;
	soft_debug.pause(outside->engine);
	assert_int_equal(outside->waits, 2);
	assert_true(held->wanted);
	assert_false(held->stopped);
	/* Nobody waits for one that is not there. */
	held->inside = false;
	soft_debug.pause(outside->engine);
	assert_int_equal(outside->waits, 2);
}

#define RUNNING(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUNNING(test_pause), RUNNING(test_step),   RUNNING(test_code),
		RUNNING(test_watch), RUNNING(test_guest),  RUNNING(test_state),
		RUNNING(test_xsave), RUNNING(test_memory), RUNNING(test_patience),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
