/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APIC, as far as it concerns its own CPU: the timer in its three modes,
 * priorities, the end of interrupts, messages to oneself; first with registers in
 * memory (xAPIC), then with registers that are MSRs (x2APIC). And whether the clocks
 * agree: time stamp counter, timer, kvmclock.
 *
 * Nothing here depends on how long anything takes: clocks are compared by reading
 * one before and after the other, which bounds the truth from both sides, however
 * long we were away in between.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define LAPIC_VERSION	  0x30
#define LAPIC_PPR	  0xa0
#define LAPIC_LDR	  0xd0
#define LAPIC_DFR	  0xe0
#define LAPIC_ISR	  0x100
#define LAPIC_TIMER_SPLIT 0x3e0

#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (2u << 17)
#define SPLIT_BY_1   0xb
#define SPLIT_BY_16  0x3

#define ICR_LOGICAL (1u << 11)
#define ICR_ALL	    (2u << 18)
#define ICR_OTHERS  (3u << 18)
#define ICR_NMI	    (4u << 8)

#define CPUID_1_C_X2APIC   (1u << 21)
#define CPUID_1_C_DEADLINE (1u << 24)

#define MSR_X2APIC_SELF_IPI 0x83f

enum { LOW = 0x31, MIDDLE = 0x41, MIDDLE_TOO = 0x45, HIGH = 0x61, TIMER = 0x52 };
enum { VECTOR_NMI = 2, VECTOR_GP = 13 };

/* In which order handlers began and ended, and what they are to do. */
static struct {
	bool x2apic;
	bool nest; /* the handler of MIDDLE raises all others and lets them in */
	u32 isr;   /* what it found in service, of its eight registers' bits */
	char log[32];
	unsigned logged;
} state;

static u32 get(u32 offset)
{
	return state.x2apic ? (u32)rdmsr(MSR_X2APIC + offset / 16) : lapic_read(offset);
}

static void set(u32 offset, u32 value)
{
	if (state.x2apic)
		wrmsr(MSR_X2APIC + offset / 16, value);
	else
		lapic_write(offset, value);
}

static bool waits(u8 vector)
{
	return get(LAPIC_IRR + vector / 32 * 16) >> vector % 32 & 1;
}

static bool in_service(u8 vector)
{
	return get(LAPIC_ISR + vector / 32 * 16) >> vector % 32 & 1;
}

static void send_self(u8 vector)
{
	set(LAPIC_ICR, ICR_SELF | vector);
}

/* Comes, or does not come. */
static void expect(u8 vector, unsigned before, unsigned count, const char *what)
{
	if (count)
		wait_for(interrupt_count(vector) - before >= count);
	linger();
	check_equal(interrupt_count(vector) - before, count, "%s", what);
}

static void check_one_shot(void)
{
	unsigned before = interrupt_count(TIMER);

	set(LAPIC_TIMER_SPLIT, SPLIT_BY_1);
	check_equal(get(LAPIC_TIMER_SPLIT), SPLIT_BY_1, "one-shot: the divider reads back");
	set(LAPIC_LVT_TIMER, TIMER);
	set(LAPIC_TIMER_INITIAL, 100000);
	expect(TIMER, before, 1, "one-shot: once");
	check_equal(get(LAPIC_TIMER_CURRENT), 0, "one-shot: the count stays at 0");
	check_equal(get(LAPIC_TIMER_INITIAL), 100000, "one-shot: the initial count is kept");

	before = interrupt_count(TIMER);
	set(LAPIC_TIMER_INITIAL, ~0u);
	check(get(LAPIC_TIMER_CURRENT) != 0, "one-shot: it counts");
	set(LAPIC_TIMER_INITIAL, 0);
	check_equal(get(LAPIC_TIMER_CURRENT), 0, "one-shot: and stops when told to count from 0");
	expect(TIMER, before, 0, "one-shot: without an interrupt");

	set(LAPIC_LVT_TIMER, LVT_MASKED | TIMER);
	set(LAPIC_TIMER_INITIAL, 1000);
	check(wait_for(get(LAPIC_TIMER_CURRENT) == 0), "masked: it runs down");
	expect(TIMER, before, 0, "masked: without an interrupt");
}

static void check_periodic(void)
{
	unsigned before = interrupt_count(TIMER);
	u32 count, last = ~0u;
	bool wrapped = false;

	set(LAPIC_LVT_TIMER, LVT_PERIODIC | TIMER);
	set(LAPIC_TIMER_INITIAL, 1000000);
	check(wait_for(interrupt_count(TIMER) - before >= 10), "periodic: ten times");
	check(wait_for((count = get(LAPIC_TIMER_CURRENT), wrapped |= count > last, last = count,
			wrapped)),
	      "periodic: the count begins anew");
	check(count <= 1000000, "periodic: from where it began (%u)", count);
	for (unsigned n = 0; n < 5; n++)
		asm volatile("hlt");
	check(interrupt_count(TIMER) - before >= 15, "periodic: each wakes a halted CPU");
	set(LAPIC_LVT_TIMER, LVT_MASKED | LVT_PERIODIC | TIMER);
	linger();
	before = interrupt_count(TIMER);
	expect(TIMER, before, 0, "periodic: not when masked");
	set(LAPIC_TIMER_INITIAL, 0);
}

static void check_deadline(void)
{
	unsigned before = interrupt_count(TIMER);
	u64 deadline;

	if (!(cpuid(1, 0).ecx & CPUID_1_C_DEADLINE))
		return;
	set(LAPIC_LVT_TIMER, LVT_DEADLINE | TIMER);
	/* Intel SDM 3A, "TSC-Deadline Mode": from here on, writes of the other are for nothing. */
	set(LAPIC_TIMER_INITIAL, 1000);
	expect(TIMER, before, 0, "deadline: the initial count means nothing");
	deadline = rdtsc() + 2000000;
	wrmsr(MSR_TSC_DEADLINE, deadline);
	check(wait_for(interrupt_count(TIMER) != before), "deadline: it comes");
	check(rdtsc() >= deadline, "deadline: but not before its time");
	check_equal(rdmsr(MSR_TSC_DEADLINE), 0, "deadline: and is over");
	expect(TIMER, before, 1, "deadline: once");

	before = interrupt_count(TIMER);
	wrmsr(MSR_TSC_DEADLINE, 1);
	expect(TIMER, before, 1, "deadline: at once, if that is in the past");

	before = interrupt_count(TIMER);
	deadline = rdtsc() + (1ull << 40);
	wrmsr(MSR_TSC_DEADLINE, deadline);
	check_equal(rdmsr(MSR_TSC_DEADLINE), deadline, "deadline: reads back while it lies ahead");
	wrmsr(MSR_TSC_DEADLINE, 0);
	expect(TIMER, before, 0, "deadline: 0 is none");
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + (1ull << 40));
	set(LAPIC_LVT_TIMER, TIMER);
	set(LAPIC_LVT_TIMER, LVT_DEADLINE | TIMER);
	check_equal(rdmsr(MSR_TSC_DEADLINE), 0, "deadline: another mode makes it forget");
	before = interrupt_count(TIMER);
	for (unsigned n = 0; n < 20; n++) {
		interrupts_off();
		wrmsr(MSR_TSC_DEADLINE, rdtsc() + 100000);
		asm volatile("sti; hlt");
	}
	check_equal(interrupt_count(TIMER) - before, 20, "deadline: each wakes a halted CPU");
	set(LAPIC_LVT_TIMER, LVT_MASKED);
}

static void handler(u8 vector)
{
	static const char names[] = {[LOW] = 'l', [MIDDLE] = 'm', [MIDDLE_TOO] = 'n', [HIGH] = 'h'};

	if (vector > HIGH || !names[vector] || state.logged + 2 > sizeof(state.log))
		return;
	state.log[state.logged++] = names[vector];
	if (vector == MIDDLE && state.nest) {
		state.isr = in_service(MIDDLE) | in_service(HIGH) << 1;
		send_self(LOW);
		send_self(MIDDLE_TOO);
		send_self(HIGH);
		interrupts_on();
		linger();
		interrupts_off();
		state.log[state.logged++] = 'M';
	}
}

static void expect_order(const char *order, const char *what)
{
	wait_for(state.logged >= strlen(order));
	linger();
	state.log[state.logged] = '\0';
	check(!strcmp(state.log, order), "%s (%s, should be %s)", what, state.log, order);
	state.logged = 0;
}

/* Higher vectors first; those of the same sixteen wait for the end (SDM 3A, "Task Priority"). */
static void check_order(void)
{
	interrupt_handler(handler);
	interrupts_off();
	send_self(MIDDLE);
	send_self(HIGH);
	send_self(LOW);
	check(wait_for(waits(LOW) && waits(MIDDLE) && waits(HIGH)), "three are waiting");
	interrupts_on();
	expect_order("hml", "the highest first");

	state.nest = true;
	send_self(MIDDLE);
	expect_order("mhMnl", "a higher one interrupts, others wait for the end");
	check_equal(state.isr, 1, "the register says what is in service");
	check(!in_service(MIDDLE) && !in_service(HIGH), "and when it is over");
	state.nest = false;

	set(LAPIC_TPR, 0x40);
	check_equal(read_cr8(), 4, "task priority: CR8 is its upper half");
	check_equal(get(LAPIC_PPR), 0x40, "task priority: is the processor's");
	send_self(LOW);
	send_self(MIDDLE);
	send_self(HIGH);
	expect_order("h", "task priority: only what is above it");
	write_cr8(3);
	check_equal(get(LAPIC_TPR), 0x30, "task priority: CR8 sets it");
	expect_order("m", "task priority: lowered by one");
	set(LAPIC_TPR, 0x2f);
	check_equal(read_cr8(), 2, "task priority: CR8 knows only the upper half");
	expect_order("l", "task priority: a lower half means nothing");
	set(LAPIC_TPR, 0);
	interrupt_handler(NULL);
}

static void check_messages(void)
{
	u32 id = get(LAPIC_ID);
	unsigned before = interrupt_count(LOW);

	send_self(LOW);
	expect(LOW, before, 1, "a message to oneself, by shorthand");
	before = interrupt_count(LOW);
	set(LAPIC_ICR, ICR_ALL | LOW);
	expect(LOW, before, 1, "a message to all, of which there is one");
	before = interrupt_count(LOW);
	set(LAPIC_ICR, ICR_OTHERS | LOW);
	expect(LOW, before, 0, "a message to all others");
	before = interrupt_count(LOW);
	if (state.x2apic) {
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (u64)id << 32 | LOW);
		expect(LOW, before, 1, "a message to one's own id");
		before = interrupt_count(LOW);
		wrmsr(MSR_X2APIC + LAPIC_ICR / 16, (u64)get(LAPIC_LDR) << 32 | ICR_LOGICAL | LOW);
		expect(LOW, before, 1, "a message to one's own logical id");
		before = interrupt_count(LOW);
		wrmsr(MSR_X2APIC_SELF_IPI, LOW);
		expect(LOW, before, 1, "a message by SELF IPI");
		return;
	}
	lapic_write(LAPIC_ICR_TARGET, id);
	lapic_write(LAPIC_ICR, LOW);
	expect(LOW, before, 1, "a message to one's own id");
	before = interrupt_count(LOW);
	lapic_write(LAPIC_DFR, ~0u);
	lapic_write(LAPIC_LDR, 0x04000000);
	lapic_write(LAPIC_ICR_TARGET, 0x06000000);
	lapic_write(LAPIC_ICR, ICR_LOGICAL | LOW);
	expect(LOW, before, 1, "a message to a set of logical ids");
	before = interrupt_count(LOW);
	lapic_write(LAPIC_ICR_TARGET, 0x03000000);
	lapic_write(LAPIC_ICR, ICR_LOGICAL | LOW);
	expect(LOW, before, 0, "a message to a set that is others");
	before = interrupt_count(LOW);
	lapic_write(LAPIC_ICR_TARGET, (id >> 24 ^ 0x15) << 24);
	lapic_write(LAPIC_ICR, LOW);
	expect(LOW, before, 0, "a message to an id that nobody has");
}

SNIPPET(send_nmi, "mov $0x400, %eax", "mov %eax, (%rdi); 1: pause; jmp 1b");

static void check_nmi(void)
{
	struct trap trap;

	interrupts_off();
	lapic_write(LAPIC_ICR_TARGET, lapic_read(LAPIC_ID));
	trap_run((u64)send_nmi, LAYOUT_LAPIC + LAPIC_ICR, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_NMI, "an NMI comes though interrupts are off");
	trap_run((u64)send_nmi, LAYOUT_LAPIC + LAPIC_ICR, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_NMI, "and the next, after IRET");
	interrupts_on();
}

/* Software may switch it off; then its own sources are masked, and cannot be unmasked. */
static void check_disabled(void)
{
	unsigned before = interrupt_count(TIMER);

	set(LAPIC_LVT_TIMER, TIMER);
	set(LAPIC_SPURIOUS, VECTOR_SPURIOUS);
	check(get(LAPIC_LVT_TIMER) & LVT_MASKED, "disabled: its vectors are masked");
	set(LAPIC_LVT_TIMER, TIMER);
	check(get(LAPIC_LVT_TIMER) & LVT_MASKED, "disabled: and stay so");
	set(LAPIC_TIMER_INITIAL, 1000);
	expect(TIMER, before, 0, "disabled: nothing comes");
	set(LAPIC_SPURIOUS, LAPIC_ENABLED | VECTOR_SPURIOUS);
	check(get(LAPIC_LVT_TIMER) & LVT_MASKED, "enabled: what was masked stays so");
}

/* How much one clock advances per tick of the TSC, times 2^20: no less and no more than that. */
struct rate {
	u64 least, most;
};

#define RATE_ONE   20
#define RATE_TICKS 20000000ull /* of the TSC: for so long, at least */

static struct rate measure(u64 (*read)(void))
{
	u64 before[2], after[2], first, last;

	before[0] = rdtsc();
	first = read();
	before[1] = rdtsc();
	while (rdtsc() - before[1] < RATE_TICKS)
		pause();
	after[0] = rdtsc();
	last = read();
	after[1] = rdtsc();
	return (struct rate){
		.least = ((last - first) << RATE_ONE) / (after[1] - before[0]),
		.most = ((last - first) << RATE_ONE) / (after[0] - before[1]) + 1,
	};
}

static bool agree(struct rate a, struct rate b, u64 factor)
{
	return a.least * factor <= 2 * b.most && b.least <= 2 * a.most * factor;
}

static u64 timer_count(void)
{
	return ~get(LAPIC_TIMER_CURRENT);
}

static void check_rate(void)
{
	struct rate fast, again, slow;

	set(LAPIC_LVT_TIMER, LVT_MASKED | TIMER);
	set(LAPIC_TIMER_SPLIT, SPLIT_BY_1);
	set(LAPIC_TIMER_INITIAL, ~0u);
	fast = measure(timer_count);
	set(LAPIC_TIMER_INITIAL, ~0u);
	again = measure(timer_count);
	set(LAPIC_TIMER_SPLIT, SPLIT_BY_16);
	set(LAPIC_TIMER_INITIAL, ~0u);
	slow = measure(timer_count);
	check(fast.least > 0, "the timer advances with the TSC");
	check(agree(fast, again, 1), "and again as fast, within a factor of 2");
	check(agree(slow, fast, 16), "and a sixteenth as fast if told so (%lu-%lu, %lu-%lu)",
	      fast.least, fast.most, slow.least, slow.most);
	set(LAPIC_TIMER_INITIAL, 0);
	set(LAPIC_TIMER_SPLIT, SPLIT_BY_1);
}

/* Documentation/virt/kvm/x86/msr.rst */
#define MSR_KVM_SYSTEM_TIME_NEW	 0x4b564d01
#define CPUID_KVM_FEATURES	 0x40000001
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)

static volatile struct {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 tsc_to_system_mul;
	signed char tsc_shift;
	u8 flags, pad[2];
} clock __attribute__((aligned(64)));

static u64 kvmclock(void)
{
	u64 delta, time;
	u32 version;

	do {
		version = clock.version;
		barrier();
		delta = rdtsc() - clock.tsc_timestamp;
		delta = clock.tsc_shift < 0 ? delta >> -clock.tsc_shift : delta << clock.tsc_shift;
		time = clock.system_time +
		       (u64)((unsigned __int128)delta * clock.tsc_to_system_mul >> 32);
		barrier();
	} while (version & 1 || version != clock.version);
	return time;
}

static void check_kvmclock(void)
{
	u64 last = 0, tsc = 0, backwards = 0;
	struct rate one, other;

	if (!(cpuid(CPUID_KVM_FEATURES, 0).eax & KVM_FEATURE_CLOCKSOURCE2))
		return;
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (u64)&clock | 1);
	check(wait_for(clock.version && !(clock.version & 1)), "kvmclock: there is a time");
	for (unsigned n = 0; n < 20000; n++) {
		u64 now = kvmclock(), now_tsc = rdtsc();

		backwards += now < last || now_tsc < tsc;
		last = now;
		tsc = now_tsc;
	}
	check_equal(backwards, 0, "kvmclock: it never goes backwards, and neither does the TSC");
	one = measure(kvmclock);
	/* A TSC ticks at 100 MHz to 10 GHz: one nanosecond is a tenth of a tick, or ten. */
	check(one.least < 10ull << RATE_ONE && one.most > (1ull << RATE_ONE) / 10,
	      "kvmclock: nanoseconds (%lu-%lu)", one.least, one.most);
	/* The version changes when it is switched on anew. */
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0);
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (u64)&clock | 1);
	other = measure(kvmclock);
	check(agree(one, other, 1), "kvmclock: and again as fast, within a factor of 2");
	wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0);
}

SNIPPET(read_msr, "mov %edi, %ecx", "rdmsr");
SNIPPET(write_msr, "mov %edi, %ecx; mov %rdi, %rdx; shr $32, %rdx; mov $1, %eax", "wrmsr");

static void check_refused(const u8 *code, u64 argument, const char *what)
{
	struct trap trap;

	interrupts_off();
	trap_run((u64)code, argument, 0, &trap);
	interrupts_on();
	check_equal(trap.frame.vector, VECTOR_GP, "x2APIC: refused: %s", what);
}

static void check_x2apic(void)
{
	u64 base = rdmsr(MSR_APIC_BASE);
	u32 id = lapic_read(LAPIC_ID) >> 24;

	wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
	state.x2apic = true;
	check_equal(rdmsr(MSR_APIC_BASE), base | APIC_BASE_X2APIC, "x2APIC: is on");
	check_equal(get(LAPIC_ID), id, "x2APIC: the id");
	check_equal(get(LAPIC_LDR), (id >> 4) << 16 | 1u << (id & 15), "x2APIC: the logical id");
	check((get(LAPIC_VERSION) & 0xff) >= 0x10, "x2APIC: the version");
	check_one_shot();
	check_periodic();
	check_deadline();
	check_order();
	check_messages();
	check_refused(read_msr, MSR_X2APIC + LAPIC_EOI / 16, "reading the end of interrupts");
	check_refused(write_msr, MSR_X2APIC + LAPIC_ID / 16, "another id");
	check_refused(read_msr, MSR_X2APIC + LAPIC_DFR / 16, "a destination format");
	check_refused(read_msr, MSR_X2APIC + 0xff, "a register that is none");
	check_refused(read_msr, MSR_X2APIC_SELF_IPI, "reading SELF IPI");
	/* Back is by way of off only. */
	wrmsr(MSR_APIC_BASE, base & ~APIC_BASE_ON);
	wrmsr(MSR_APIC_BASE, base);
	state.x2apic = false;
	check_equal(lapic_read(LAPIC_ID) >> 24, id, "xAPIC again: the id");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	interrupts_on();
	check_one_shot();
	check_periodic();
	check_deadline();
	check_order();
	check_messages();
	check_nmi();
	check_disabled();
	check_rate();
	check_kvmclock();
	if (cpuid(1, 0).ecx & CPUID_1_C_X2APIC)
		check_x2apic();
}
