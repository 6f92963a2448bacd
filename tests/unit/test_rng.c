/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtio entropy device (virtio/rng.c). Whether numbers are random cannot be
 * tested here; whether a buffer was filled to the last byte, and not beyond it, can:
 * 32 zeroes in a row do not come out of a generator before the sun is cold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "virtio/rng.h"

#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUESTS 0
#define TARGET	 MiB(4) /* RAM that no queue of the fake guest uses */
#define UNLIKELY 32	/* bytes that are all the same */

struct fixture {
	struct fake_guest guest;
	struct rng rng;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why;

	assert_non_null(f);
	fake_guest_init(&f->guest, false);
	snprintf(f->rng.virtio.name, sizeof(f->rng.virtio.name), "rng0");
	assert_int_equal(rng_init(&f->rng, &f->guest.pci, FAKE_GUEST_SLOT, &f->guest.machine,
				  f->guest.memory, &why),
			 0);
	fake_guest_power_on(&f->guest);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_power_on(&f->rng.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->rng.virtio);
	fake_guest_destroy(&f->guest);
	free(f);
	return 0;
}

static u8 *target(struct fixture *f)
{
	return memory_at(f->guest.memory, TARGET, MiB(4));
}

static bool is_zero(const u8 *at, size_t len)
{
	while (len && !*at)
		at++, len--;
	return !len;
}

/* Shorter ones are not looked at: a zero or two is as random as any number. */
static void assert_random(const u8 *at, size_t len)
{
	for (; len >= UNLIKELY; at += UNLIKELY, len -= UNLIKELY)
		assert_false(is_zero(at, UNLIKELY));
}

static u32 fill(struct fixture *f, const struct fake_buffer *buffers, unsigned count)
{
	u16 head;

	assert_true(fake_driver_add(&f->guest.queues[REQUESTS], buffers, count) >= 0);
	submit(&f->guest, REQUESTS);
	return await_used(&f->guest, REQUESTS, &head);
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);

	assert_int_equal(pci_config_read(device, PCI_DEVICE_ID, 2), 0x1040 + VIRTIO_ID_RNG);
	assert_int_equal(pci_config_read(device, PCI_CLASS_REVISION, 4) >> 8, 0xff0000);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_NUMQ), 1);
}

static void test_fills_completely(void **state)
{
	static const u32 lengths[] = {32, 33, 4096, KiB(64), KiB(64) + 1, KiB(300) + 7};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		const struct fake_buffer buffer = {TARGET + UNLIKELY, lengths[i], true};

		memset(target(f), 0, MiB(1));
		assert_int_equal(fill(f, &buffer, 1), lengths[i]);
		assert_random(target(f) + UNLIKELY, lengths[i]);
		assert_random(target(f) + lengths[i], UNLIKELY);
		assert_true(is_zero(target(f), UNLIKELY));
		assert_true(is_zero(target(f) + UNLIKELY + lengths[i], UNLIKELY));
	}
}

/* A single byte is zero one time in 256; not 64 times in a row. */
static void test_fills_a_single_byte(void **state)
{
	const struct fake_buffer buffer = {TARGET + 1, 1, true};
	struct fixture *f = *state;
	bool changed = false;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(fill(f, &buffer, 1), 1);
		changed |= target(f)[1] != 0;
		assert_true(!target(f)[0] && !target(f)[2]);
	}
	assert_true(changed);
}

/* VQ-10: cut into six in every way that 64 bytes can be, in steps of 16, with empty ones. */
static void test_any_framing(void **state)
{
	struct fixture *f = *state;
	unsigned ways = 0;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1 | 1ull << VIRTIO_RING_F_INDIRECT_DESC);
	for (unsigned code = 0; code < 5 * 5 * 5 * 5 * 5; code++) {
		struct fake_buffer buffers[6];
		unsigned rest = code, at = 0, i;

		for (i = 0; i < 5 && at <= 64; i++, rest /= 5) {
			buffers[i] = (struct fake_buffer){TARGET + at, rest % 5 * 16, true};
			at += rest % 5 * 16;
		}
		if (at > 64)
			continue;
		buffers[5] = (struct fake_buffer){TARGET + at, 64 - at, true};
		for (unsigned direct = 0; direct <= 6; direct += 6) {
			u16 head;

			memset(target(f), 0, 96);
			assert_true(fake_driver_add_indirect(&f->guest.queues[REQUESTS], buffers, 6,
							     direct) >= 0);
			submit(&f->guest, REQUESTS);
			assert_int_equal(await_used(&f->guest, REQUESTS, &head), 64);
			for (i = 0; i < 64; i += 16)
				assert_false(is_zero(target(f) + i, 16));
			assert_true(is_zero(target(f) + 64, 32));
		}
		ways++;
	}
	assert_int_equal(ways, 126); /* four steps onto six buffers: 9 over 4 */
}

static void test_two_fills_differ(void **state)
{
	const struct fake_buffer one = {TARGET, 64, true}, two = {TARGET + 64, 64, true};
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_int_equal(fill(f, &one, 1), 64);
	assert_int_equal(fill(f, &two, 1), 64);
	assert_memory_not_equal(target(f), target(f) + 64, 64);
}

static void test_readable_buffer_is_a_violation(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffers[] = {{TARGET, 16, false}, {TARGET + 16, 16, true}};

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_true(fake_driver_add(&f->guest.queues[REQUESTS], buffers, 2) >= 0);
	submit(&f->guest, REQUESTS);
	AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
	/* The status comes before the words; after a reset, both have come. */
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_non_null(strstr(fake_guest_said(&f->guest), "rng0: queue 0: VQ-3"));
	assert_true(is_zero(target(f), 32));
}

/*
 * As much as a queue of this RAM can ask for, a GiB and seconds of work; a reset does not wait for
 * it. The ring is ours to look at, so we see how far it came.
 */
static void offer_gigabyte(struct fixture *f)
{
	struct fake_buffer buffers[FAKE_QUEUE_MAX];

	bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1);
	queue_lay_out(&f->guest, REQUESTS, FAKE_QUEUE_MAX, FEATURE_VERSION_1);
	queue_place(&f->guest, REQUESTS);
	queue_set(&f->guest, REQUESTS, VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned i = 0; i < FAKE_QUEUE_MAX; i++)
		buffers[i] = (struct fake_buffer){TARGET, MiB(4), true};
	assert_true(fake_driver_add(&f->guest.queues[REQUESTS], buffers, FAKE_QUEUE_MAX) >= 0);
	submit(&f->guest, REQUESTS);
	AWAIT(!is_zero(target(f), UNLIKELY));
}

static void assert_cut_short(struct fixture *f)
{
	u32 written;
	u16 head;

	assert_true(fake_driver_take(&f->guest.queues[REQUESTS], &head, &written));
	assert_true(written > 0);
	assert_true(written < GiB(1));
}

static void test_reset_cuts_a_long_request_short(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffer = {TARGET, 64, true};

	offer_gigabyte(f);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(status_get(&f->guest), 0);
	assert_cut_short(f);

	memset(target(f), 0, MiB(4));
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_int_equal(fill(f, &buffer, 1), 64);
	assert_random(target(f), 64);
	assert_true(is_zero(target(f) + 64, MiB(4) - 64));
}

/* The driver hears of each long chain when it is filled, not when all are. */
static void test_long_chains_are_told_one_by_one(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffer = {TARGET, MiB(1), true};
	u16 head;

	enable_msix(&f->guest, 2);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	for (unsigned i = 0; i < 3; i++)
		assert_true(fake_driver_add(&f->guest.queues[REQUESTS], &buffer, 1) >= 0);
	submit(&f->guest, REQUESTS);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(await_used(&f->guest, REQUESTS, &head), MiB(1));
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(fake_engine_sent(&f->guest.engine), 3);
}

/* PCI-4: a device that may not be bus master for a while is not reset; its driver loses nothing. */
static void test_no_request_is_lost_at_rest(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffer = {TARGET, 64, true};
	struct pci_device *device = fake_guest_device(&f->guest);
	const u16 command = pci_config_read(device, PCI_COMMAND, 2);

	offer_gigabyte(f);
	pci_config_write(device, PCI_COMMAND, 2, command & ~PCI_COMMAND_MASTER);
	assert_cut_short(f);
	pci_config_write(device, PCI_COMMAND, 2, command);
	assert_int_equal(fill(f, &buffer, 1), 64);
}

static void test_no_memory_ends_the_machine(void **state)
{
	struct fixture *f = *state;
	const struct fake_buffer buffer = {TARGET, KiB(128), true};

	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_int_equal(mprotect(target(f) + KiB(64), PAGE_SIZE, PROT_NONE), 0);
	assert_int_equal(fill(f, &buffer, 1), KiB(64));
	assert_false(machine_running(&f->guest.machine));
	assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
	assert_string_equal(f->guest.machine.why, "rng0: cannot get random numbers: Bad address");
	assert_int_equal(mprotect(target(f) + KiB(64), PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_fills_completely),
		TEST(test_fills_a_single_byte),
		TEST(test_any_framing),
		TEST(test_two_fills_differ),
		TEST(test_readable_buffer_is_a_violation),
		TEST(test_reset_cuts_a_long_request_short),
		TEST(test_long_chains_are_told_one_by_one),
		TEST(test_no_request_is_lost_at_rest),
		TEST(test_no_memory_ends_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
