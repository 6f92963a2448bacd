/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts from CPU to CPU: to whom they go, in which order they are taken, and
 * that none is lost, however many there are and whatever the other one does; and
 * NMIs, which wait for nothing but each other.
 *
 *   rounds=N	how often what may go wrong is tried
 */
#include "lib/cpu.h"
#include "lib/crew.h"

enum {
	VECTOR_NMI = 2,
	VECTOR_BP = 3,
	VECTOR_GP = 13,
	VECTOR_PING = 0x41,
	VECTOR_PONG = 0x51,
	VECTOR_STORM = 0x60, /* and the next 15, to the first CPU; then as many to the second */
	VECTOR_TEST = 0x91,
};

#define STORM_VECTORS 16u

#define LAPIC_LDR 0xd0
#define LAPIC_DFR 0xe0
#define LAPIC_ESR 0x280

#define ICR_LOWEST	 (1u << 8)
#define ICR_NMI		 (4u << 8)
#define ICR_LOGICAL	 (1u << 11)
#define ICR_ASSERT	 (1u << 14)
#define ICR_ALL		 (2u << 18)
#define ICR_OTHERS	 (3u << 18)
#define DFR_FLAT	 0xffffffffu
#define DFR_CLUSTER	 0x0fffffffu
#define BROADCAST	 0xffu
#define NOBODY		 0xeeu
#define MSR_X2APIC_LDR	 (MSR_X2APIC + LAPIC_LDR / 16)
#define MSR_X2APIC_ICR	 (MSR_X2APIC + LAPIC_ICR / 16)
#define MSR_X2APIC_SELF	 (MSR_X2APIC + 0x3f)
#define BROADCAST_X2	 0xffffffffu
#define CPUID_1_C_X2APIC (1u << 21)

static struct {
	unsigned cpus, rounds;
	volatile bool stop;
	volatile unsigned taken[CREW_MOST];	   /* of VECTOR_TEST, by each CPU */
	volatile unsigned done[CREW_MOST];	   /* CPUs that did as they were told */
	volatile unsigned storm[2][STORM_VECTORS]; /* by either CPU */
	volatile unsigned lost[2];
	volatile bool pong;
	volatile u8 order[8];
	volatile unsigned ordered;
} state;

static void on_interrupt(u8 vector)
{
	unsigned self = crew_self();

	if (vector == VECTOR_PING && state.pong)
		cpu_send(0, VECTOR_PONG);
	if (vector >= VECTOR_STORM && vector < VECTOR_STORM + 2 * STORM_VECTORS)
		state.storm[self][(vector - VECTOR_STORM) % STORM_VECTORS]++;
	if (vector >= VECTOR_TEST)
		state.taken[self]++;
	if (vector >= VECTOR_TEST && state.ordered < ARRAY_SIZE(state.order))
		state.order[state.ordered++] = vector;
}

/* ------------------------------------------------------------------ none is lost */

static void stay_awake(void)
{
	while (!state.stop)
		pause();
}

static void sleep_on(void)
{
	for (;;) {
		interrupts_off();
		if (state.stop)
			break;
		asm volatile("sti; hlt" : : : "memory");
	}
	interrupts_on();
}

static void check_ping(const char *name, void (*work)(void), unsigned rounds)
{
	unsigned pings = interrupt_count(VECTOR_PING), pongs = interrupt_count(VECTOR_PONG);
	unsigned lost = 0;

	state.stop = false;
	state.pong = true;
	crew_give(1, work);
	for (unsigned n = 1; n <= rounds && !lost; n++) {
		cpu_send(1, VECTOR_PING);
		lost += !wait_for(interrupt_count(VECTOR_PONG) == pongs + n);
	}
	state.pong = false;
	state.stop = true;
	cpu_send(1, VECTOR_PING);
	crew_wait(1);
	check_equal(lost, 0, "%u interrupts there and back: %s", rounds, name);
	check_equal(interrupt_count(VECTOR_PING) - pings, rounds + 1, "and not one more");
}

/* Sixteen at a time in each direction, each as soon as the one before it was taken. */
static void storm(void)
{
	unsigned self = crew_self(), other = !self;
	u32 first = VECTOR_STORM + other * STORM_VECTORS;

	for (unsigned n = 1; n <= state.rounds && !state.lost[self]; n++)
		for (unsigned v = 0; v < STORM_VECTORS; v++) {
			if (!wait_for(state.storm[other][v] >= n - 1))
				state.lost[self]++;
			cpu_send((u8)other, first + v);
		}
	for (unsigned v = 0; v < STORM_VECTORS; v++)
		if (!wait_for(state.storm[other][v] == state.rounds))
			state.lost[self]++;
}

static void check_storm(void)
{
	crew_give(1, storm);
	storm();
	crew_wait(1);
	check_equal(state.lost[0], 0, "a storm of interrupts, from the first CPU");
	check_equal(state.lost[1], 0, "and from the second at the same time");
}

static void wait_masked(void)
{
	interrupts_off();
	state.done[1] = 1;
	while (!state.stop)
		pause();
	interrupts_on();
	state.done[1] = 2;
}

/* What waits is taken by priority, and what has come twice once. */
static void check_order(void)
{
	static const u8 sent[] = {0x95, 0xc3, 0x92, 0xe1, 0xc4, 0x95, 0xb0};
	static const u8 wanted[] = {0xe1, 0xc4, 0xc3, 0xb0, 0x95, 0x92};
	bool good = true;

	state.stop = false;
	state.done[1] = 0;
	state.ordered = 0;
	crew_give(1, wait_masked);
	if (!wait_for(state.done[1] == 1))
		give_up("the second CPU masks interrupts");
	for (size_t i = 0; i < ARRAY_SIZE(sent); i++)
		cpu_send(1, sent[i]);
	linger();
	check_equal(state.ordered, 0, "no interrupt is taken while they are masked");
	state.stop = true;
	crew_wait(1);
	check(wait_for(state.ordered == ARRAY_SIZE(wanted)), "then all are, and each once (%u)",
	      state.ordered);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		good = good && state.order[i] == wanted[i];
	check(good, "by priority, whatever the order in which they were sent");
}

/* ------------------------------------------------------------------ to whom */

static void clear_taken(void)
{
	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		state.taken[cpu] = 0;
}

static unsigned total_taken(void)
{
	unsigned total = 0;

	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		total += state.taken[cpu];
	return total;
}

/* It came to those whose bits are set, and to each once. */
static void check_taken(unsigned cpus, const char *name)
{
	unsigned wanted = 0;
	bool good;

	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		wanted += cpus >> cpu & 1;
	good = wait_for(total_taken() >= wanted);
	linger();
	for (unsigned cpu = 0; cpu < state.cpus; cpu++)
		good = good && state.taken[cpu] == (cpus >> cpu & 1);
	if (!check(good, "%s", name))
		for (unsigned cpu = 0; cpu < state.cpus; cpu++)
			print("  CPU %u took %u\n", cpu, state.taken[cpu]);
	clear_taken();
}

static void check_one_taken(const char *name)
{
	bool good = wait_for(total_taken());

	linger();
	check(good && total_taken() == 1, "%s", name);
	clear_taken();
}

static void be_flat(void)
{
	lapic_write(LAPIC_DFR, DFR_FLAT);
	lapic_write(LAPIC_LDR, 1u << (24 + crew_self()));
}

/* Two to a cluster. */
static void be_clustered(void)
{
	unsigned self = crew_self();

	lapic_write(LAPIC_DFR, DFR_CLUSTER);
	lapic_write(LAPIC_LDR, (self / 2) << 28 | 1u << (24 + self % 2));
}

static void all_be(void (*work)(void))
{
	crew_give_all(work);
	crew_wait_all();
	work();
}

static void check_destinations(void)
{
	unsigned all = (1u << state.cpus) - 1, last = state.cpus - 1;

	clear_taken();
	cpu_send((u8)last, ICR_ASSERT | VECTOR_TEST);
	check_taken(1u << last, "to one");
	cpu_send(0, VECTOR_TEST);
	check_taken(1, "to itself, by its id");
	cpu_send(NOBODY, ICR_SELF | VECTOR_TEST);
	check_taken(1, "to itself, by shorthand");
	cpu_send(NOBODY, ICR_ALL | VECTOR_TEST);
	check_taken(all, "to all, by shorthand");
	cpu_send(NOBODY, ICR_OTHERS | VECTOR_TEST);
	check_taken(all & ~1u, "to all others");
	cpu_send(BROADCAST, VECTOR_TEST);
	check_taken(all, "to all, by broadcast");
	cpu_send(NOBODY, VECTOR_TEST);
	check_taken(0, "to nobody");

	all_be(be_flat);
	cpu_send((u8)all, ICR_LOGICAL | VECTOR_TEST);
	check_taken(all, "flat: to all");
	cpu_send((u8)(all & ~1u), ICR_LOGICAL | VECTOR_TEST);
	check_taken(all & ~1u, "flat: to all but one");
	cpu_send((u8)all, ICR_LOGICAL | ICR_LOWEST | VECTOR_TEST);
	check_one_taken("flat: to one of them");

	all_be(be_clustered);
	cpu_send(0x03, ICR_LOGICAL | VECTOR_TEST);
	check_taken(3, "clusters: to the first");
	cpu_send(0x02, ICR_LOGICAL | VECTOR_TEST);
	check_taken(2, "clusters: to one of it");
	if (state.cpus > 2) {
		cpu_send(0x13, ICR_LOGICAL | VECTOR_TEST);
		check_taken(all & 0xc, "clusters: to the second");
	}
	all_be(be_flat);
}

/* ------------------------------------------------------------------ x2APIC */

static void be_x2(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_X2APIC);
}

static void send_x2(u32 destination, u32 command)
{
	wrmsr(MSR_X2APIC_ICR, (u64)destination << 32 | command);
}

/* For good: there is no way back but through switching off. */
static void check_x2(void)
{
	unsigned all = (1u << state.cpus) - 1;

	if (!(cpuid(1, 0).ecx & CPUID_1_C_X2APIC)) {
		print("ipi: no x2APIC\n");
		return;
	}
	all_be(be_x2);
	check_equal(rdmsr(MSR_X2APIC_LDR), 1, "x2APIC: its logical id");
	send_x2(1, VECTOR_TEST);
	check_taken(2, "x2APIC: to one");
	send_x2(BROADCAST_X2, VECTOR_TEST);
	check_taken(all, "x2APIC: to all, by broadcast");
	send_x2(all, ICR_LOGICAL | VECTOR_TEST);
	check_taken(all, "x2APIC: to the cluster");
	send_x2(all & ~1u, ICR_LOGICAL | VECTOR_TEST);
	check_taken(all & ~1u, "x2APIC: to all but one of it");
	send_x2(1u << 16 | all, ICR_LOGICAL | VECTOR_TEST);
	check_taken(0, "x2APIC: to a cluster that is not there");
	send_x2(0, ICR_OTHERS | VECTOR_TEST);
	check_taken(all & ~1u, "x2APIC: to all others");
	wrmsr(MSR_X2APIC_SELF, VECTOR_TEST);
	check_taken(1, "x2APIC: to itself, by the register for that");
}

/* ------------------------------------------------------------------ NMI */

static struct {
	volatile unsigned count, depth, deepest;
	volatile unsigned wanted; /* the handler goes on when the first CPU has sent so many */
	volatile unsigned sent;
	void (*volatile first)(struct frame *frame); /* what the first one does */
	volatile unsigned in_first;		     /* NMIs that came while it did so */
	volatile bool missed;
} nmi;

extern const u8 faulting_iret[], after_faulting_iret[];

static bool on_exception(struct frame *frame)
{
	if (frame->vector == VECTOR_BP)
		return true;
	if (frame->vector == VECTOR_GP && frame->rip == (u64)faulting_iret) {
		/* Something that every hypervisor looks at, so that what is due is done. */
		linger();
		frame->rip = (u64)after_faulting_iret;
		return true;
	}
	if (frame->vector != VECTOR_NMI)
		return false;
	nmi.count++;
	nmi.depth++;
	if (nmi.depth > nmi.deepest)
		nmi.deepest = nmi.depth;
	if (nmi.first && nmi.count == 1) {
		if (!wait_for(nmi.sent == nmi.wanted))
			nmi.missed = true;
		linger();
		nmi.first(frame);
		nmi.in_first = nmi.count - 1;
	}
	nmi.depth--;
	return true;
}

static void nothing(struct frame *frame)
{
	(void)frame;
}

/* Any IRET ends the blocking: that of an exception within the handler, too. */
static void breakpoint(struct frame *frame)
{
	(void)frame;
	asm volatile("int3");
	linger();
}

/*
 * Even one that faults (Intel SDM 3A, "Handling Multiple NMIs"): here for its code segment. Of the
 * frame nothing is popped.
 */
static void iret_that_faults(struct frame *frame)
{
	(void)frame;
	asm volatile("mov %%rsp, %%rax\n"
		     "pushq %0; push %%rax; pushfq; pushq $0x7f8; pushq $1f\n"
		     ".globl faulting_iret, after_faulting_iret\n"
		     "faulting_iret: iretq\n"
		     "1: after_faulting_iret: add $40, %%rsp"
		     :
		     : "i"(SEGMENT_DATA)
		     : "rax", "memory", "cc");
}

static void wait_for_end(void)
{
	state.done[1] = 1;
	while (!state.stop)
		pause();
}

static void wait_deaf(void)
{
	interrupts_off();
	wait_for_end();
	interrupts_on();
}

static void halt_deaf(void)
{
	interrupts_off();
	state.done[1] = 1;
	asm volatile("hlt");
	state.done[1] = 2;
	interrupts_on();
}

static void pass(void)
{
}

static void begin_nmi(void (*work)(void), void (*first)(struct frame *), unsigned wanted)
{
	/* One may still be on its way. */
	linger();
	crew_give(1, pass);
	crew_wait(1);
	state.stop = false;
	state.done[1] = 0;
	nmi.count = nmi.depth = nmi.deepest = nmi.in_first = nmi.sent = 0;
	nmi.missed = false;
	nmi.first = first;
	nmi.wanted = wanted;
	crew_give(1, work);
	if (!wait_for(state.done[1]))
		give_up("the second CPU does as it is told");
}

/* Three more come while the first is handled; one of them is kept. */
static void check_nmi_in_nmi(const char *name, void (*first)(struct frame *frame), bool inside)
{
	begin_nmi(wait_deaf, first, 3);
	cpu_send(1, ICR_NMI);
	check(wait_for(nmi.count), "NMI: %s", name);
	for (unsigned n = 1; n <= 3; n++) {
		cpu_send(1, ICR_NMI);
		nmi.sent = n;
	}
	wait_for(nmi.count > 1 && !nmi.depth);
	linger();
	state.stop = true;
	crew_wait(1);
	check(!nmi.missed, "its handler goes on");
	check_equal(nmi.count, 2, "of three more NMIs that came in its handler one is taken");
	check_equal(nmi.in_first, inside, "NMIs taken before the handler ended");
	check_equal(nmi.deepest, 1 + inside, "handlers at a time");
}

static void check_nmi(void)
{
	interrupt_hook(on_exception);
	begin_nmi(halt_deaf, NULL, 0);
	/* The first may come too early. */
	for (unsigned n = 0; n < 1000 && state.done[1] == 1; n++) {
		linger();
		cpu_send(1, ICR_NMI);
	}
	crew_wait(1);
	check(nmi.count && state.done[1] == 2, "an NMI ends HLT, though interrupts are off");

	check_nmi_in_nmi("blocked until IRET", nothing, false);
	check_nmi_in_nmi("blocked until the IRET of an exception", breakpoint, true);
	/* Which KVM finds out about there by a step, whose trap it gives to the guest. */
	if (!cpu_deviates("NMIs after an IRET that faults"))
		check_nmi_in_nmi("blocked until an IRET that faults", iret_that_faults, true);

	begin_nmi(wait_for_end, NULL, 0);
	for (unsigned n = 1; n <= state.rounds; n++) {
		cpu_send(1, ICR_NMI);
		if (!wait_for(nmi.count == n && !nmi.depth))
			break;
	}
	state.stop = true;
	crew_wait(1);
	check_equal(nmi.count, state.rounds, "%u NMIs, one after the other", state.rounds);
	interrupt_hook(NULL);
}

void guest_main(const struct boot *boot)
{
	interrupt_init();
	interrupt_handler(on_interrupt);
	state.cpus = crew_muster(boot);
	state.rounds = crew_rounds(boot, 200);
	check_ping("to one that spins", stay_awake, state.rounds);
	check_ping("to one that sleeps", sleep_on, 10 * state.rounds);
	check_storm();
	check_order();
	check_destinations();
	check_nmi();
	check_x2();
}
