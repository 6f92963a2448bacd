/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic, found and written through the bus as the kernel's module does it.
 */
#include "board/pvpanic.h"

#include "fake_engine.h"

#include <misc/pvpanic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOT 31

struct fixture {
	struct bus *bus;
	struct ioapic ioapic;
	struct pci_bus pci;
	struct fake_engine fake;
	struct machine machine;
	struct pvpanic pvpanic;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fake_engine_init(&f->fake);
	f->bus = bus_new();
	if (machine_init(&f->machine))
		return -1;
	ioapic_init(&f->ioapic, f->bus);
	pci_init(&f->pci, f->bus, &f->ioapic);
	if (pvpanic_init(&f->pvpanic, &f->pci, SLOT, &f->machine))
		return -1;
	ioapic_reset(&f->ioapic, &f->fake.engine);
	pci_reset(&f->pci, &f->fake.engine);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_destroy(&f->pci);
	ioapic_destroy(&f->ioapic);
	bus_free(f->bus);
	machine_destroy(&f->machine);
	fake_engine_destroy(&f->fake);
	free(f);
	return 0;
}

static u32 config(struct fixture *f, unsigned reg)
{
	bus_write(f->bus, PORT, PORT_PCI_ADDRESS, 4, 0x80000000 | SLOT << 11 | reg);
	return bus_read(f->bus, PORT, PORT_PCI_DATA, 4);
}

static void test_identity(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(config(f, 0x00), 0x00111b36);
	assert_int_equal(config(f, 0x08) >> 8, 0x088000);
	assert_int_equal(config(f, 0x3c), 0); /* no interrupt */
	assert_int_equal(config(f, 0x04) >> 16, 0);
	assert_int_equal(config(f, 0x34), 0);
	bus_write(f->bus, PORT, PORT_PCI_ADDRESS, 4, 0x80000000 | SLOT << 11 | 0x10);
	bus_write(f->bus, PORT, PORT_PCI_DATA, 4, 0xffffffff);
	assert_int_equal(bus_read(f->bus, PORT, PORT_PCI_DATA, 4), 0xfffffff0);
}

static void test_supported_events(void **state)
{
	struct fixture *f = *state;
	u64 base = config(f, 0x10);

	assert_int_equal(bus_read(f->bus, MEMORY, base, 1), 3);
	assert_int_equal(bus_read(f->bus, MEMORY, base, 4), 3);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 1, 1), 0);
	assert_int_equal(bus_read(f->bus, MEMORY, base + 15, 1), 0);
}

static void test_panic_ends_the_machine(void **state)
{
	struct fixture *f = *state;
	u64 base = config(f, 0x10);

	bus_write(f->bus, MEMORY, base, 1, 0);
	bus_write(f->bus, MEMORY, base, 1, 0xfc);
	bus_write(f->bus, MEMORY, base + 1, 1, PVPANIC_PANICKED);
	assert_true(machine_running(&f->machine));
	bus_write(f->bus, MEMORY, base, 1, PVPANIC_PANICKED);
	assert_false(machine_running(&f->machine));
	assert_int_equal(f->machine.status, EXIT_PANICKED);
	assert_non_null(strstr(f->machine.why, "panicked"));
}

static void test_crash_kernel_runs_on(void **state)
{
	struct fixture *f = *state;
	u64 base = config(f, 0x10);
	int saved = dup(STDERR_FILENO), out = memfd_create("stderr", 0);
	unsigned lines = 0;
	char text[1024];
	ssize_t length;

	dup2(out, STDERR_FILENO);
	for (unsigned i = 0; i < 100; i++)
		bus_write(f->bus, MEMORY, base, 1, PVPANIC_CRASH_LOADED);
	dup2(saved, STDERR_FILENO);
	length = pread(out, text, sizeof(text) - 1, 0);
	close(saved);
	close(out);
	assert_true(length > 0);
	text[length] = '\0';
	for (char *c = text; *c; c++)
		lines += *c == '\n';
	assert_int_equal(lines, 1);
	assert_non_null(strstr(text, "crash kernel"));
	assert_true(machine_running(&f->machine));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_supported_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_panic_ends_the_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_kernel_runs_on, setup, teardown),
	};

	return cmocka_run_group_tests_name("pvpanic", tests, NULL, NULL);
}
