/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Wakes up all other CPUs as kernels do, INIT and start-up message by message,
 * and asks each who it is. Also what every CPU should look like: CPUID and MSRs
 * that Linux relies on.
 */
#include "lib/acpi.h"
#include "lib/cpus.h"
#include "lib/guest.h"
#include "lib/interrupt.h"

#define CPUS_MAX 256

#define MSR_APIC_BASE	 0x1b
#define MSR_MTRR_DEFAULT 0x2ff
#define APIC_BASE_FIRST	 (1 << 8) /* this is the CPU that boots */
#define APIC_BASE_ON	 (1 << 11)
#define MTRR_ON		 (1 << 11)
#define MTRR_WRITE_BACK	 6

#define CPUID_1_C_TSC_DEADLINE (1u << 24)
#define CPUID_1_C_HYPERVISOR   (1u << 31)
#define CPUID_1_D_APIC	       (1u << 9)
#define CPUID_HYPERVISOR       0x40000000

static u8 stacks[64][STACK_SIZE] __attribute__((aligned(16)));

/* What the CPUs report, each in its place. */
static struct report {
	u32 apic_id;   /* CPUID leaf 1 */
	u32 x2apic_id; /* CPUID leaf 0xB */
	u32 lapic_id;  /* the local APIC itself */
	bool apic_on, first;
	u8 mtrr;
} reports[CPUS_MAX];
static volatile unsigned reported;

static void cpuid(u32 leaf, u32 subleaf, u32 *a, u32 *b, u32 *c, u32 *d)
{
	asm volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(subleaf));
}

static void report_self(struct report *report)
{
	u64 base = rdmsr(MSR_APIC_BASE), mtrr = rdmsr(MSR_MTRR_DEFAULT);
	u32 a, b, c, d;

	cpuid(1, 0, &a, &b, &c, &d);
	report->apic_id = b >> 24;
	cpuid(0xb, 0, &a, &b, &c, &d);
	report->x2apic_id = d;
	report->lapic_id = lapic_read(LAPIC_ID) >> 24;
	report->apic_on = base & APIC_BASE_ON;
	report->first = base & APIC_BASE_FIRST;
	report->mtrr = mtrr & MTRR_ON ? (u8)mtrr : 0xff;
}

/* A further CPU, on a stack of its own: trampoline.S. It reports, and sleeps for good. */
void ap_main(void)
{
	report_self(&reports[__sync_fetch_and_add(&reported, 1)]);
}

/* One at a time: reports are told apart by who came last, and text does not mix. */
static void start_cpu(u8 apic_id)
{
	unsigned before = reported;
	const struct report *report = &reports[before];

	cpu_send_init(apic_id);
	linger();
	cpu_send_startup(apic_id);
	if (!check(wait_for(reported > before), "CPU with APIC id %u starts", apic_id))
		return;
	linger();
	/* The second message that some CPUs of old needed must not start it twice. */
	cpu_send_startup(apic_id);
	linger();
	check_equal(reported, before + 1, "APIC id %u: starts once", apic_id);
	check_equal(report->apic_id, apic_id, "APIC id %u: CPUID leaf 1", apic_id);
	check_equal(report->x2apic_id, apic_id, "APIC id %u: CPUID leaf 0xB", apic_id);
	check_equal(report->lapic_id, apic_id, "APIC id %u: local APIC", apic_id);
	check(report->apic_on && !report->first,
	      "APIC id %u: local APIC is on, not that of the first CPU", apic_id);
	check_equal(report->mtrr, MTRR_WRITE_BACK, "APIC id %u: memory is write-back", apic_id);
}

static void check_first(void)
{
	struct report *report = &reports[reported++];
	u32 a, b, c, d;
	struct {
		u32 b, c, d;
		char end;
	} signature = {.end = '\0'};

	report_self(report);
	check_equal(report->apic_id, 0, "first CPU: CPUID leaf 1");
	check_equal(report->x2apic_id, 0, "first CPU: CPUID leaf 0xB");
	check(report->apic_on && report->first,
	      "first CPU: local APIC is on, and that of the first CPU");
	check_equal(report->mtrr, MTRR_WRITE_BACK, "first CPU: memory is write-back");

	cpuid(1, 0, &a, &b, &c, &d);
	check(d & CPUID_1_D_APIC, "CPUID: local APIC");
	check(c & CPUID_1_C_HYPERVISOR, "CPUID: hypervisor");
	check(c & CPUID_1_C_TSC_DEADLINE, "CPUID: TSC deadline timer");
	cpuid(CPUID_HYPERVISOR, 0, &a, &signature.b, &signature.c, &signature.d);
	check(!memcmp(&signature, "KVMKVMKVM\0\0\0", 12), "CPUID: hypervisor signature (%s)",
	      (const char *)&signature);
	check(a > CPUID_HYPERVISOR, "CPUID: hypervisor features");
}

void guest_main(const struct boot *boot)
{
	const struct acpi_madt *madt = acpi_find(boot, "APIC");
	unsigned cpus = acpi_cpu_count(boot);
	char wanted[8];

	if (!madt)
		give_up("there is a MADT");
	interrupt_init();
	check_first();
	cpus_prepare(stacks);
	for (const u8 *entry = madt->entries;
	     entry < (const u8 *)madt + madt->header.len && entry[1]; entry += entry[1])
		if (entry[0] == MADT_LOCAL_APIC && entry[3] != reports[0].apic_id &&
		    reported < ARRAY_SIZE(stacks))
			start_cpu(entry[3]);
	print("smp: %u CPUs\n", reported);
	check_equal(reported, cpus, "as many CPUs as the MADT lists");
	if (boot_option(boot, "cpus", wanted, sizeof(wanted))) {
		unsigned number = 0;

		for (const char *digit = wanted; *digit; digit++)
			number = number * 10 + (unsigned)(*digit - '0');
		check_equal(reported, number, "as many CPUs as were asked for");
	}
}
