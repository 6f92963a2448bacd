/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a virtio device and its PCI transport (virtio/device.c,
 * virtio/pci.c), seen through what a driver can reach: configuration space, the
 * BARs, the rings, and interrupts. Each VT rule is broken here, in both modes.
 *
 * The device under test is a toy with two queues: the first gives back what it
 * is sent, the second tells what came out of an eventfd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_guest.h"
#include "host/log.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TOY_ID	    42
#define TOY_CLASS   0xff0000
#define TOY_A	    (1ull << 0)
#define TOY_B	    (1ull << 1) /* needs TOY_A */
#define TOY_WRITES  4		/* offset of the configuration's one writable field */
#define TOY_CONFIG  8
#define ECHO	    0
#define TELL	    1
#define RING_RESET  (1ull << VIRTIO_F_RING_RESET)
#define RING_PACKED (1ull << VIRTIO_F_RING_PACKED)
#define EVENT_IDX   (1ull << VIRTIO_RING_F_EVENT_IDX)
#define COMMON_LIVE                                                                                \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)
#define NOTIFIERS 8

struct toy {
	struct virtio_device virtio;
	u32 config[TOY_CONFIG / 4];
	int source;		  /* eventfd: what TELL tells */
	_Atomic unsigned hold;	  /* bit n: serving queue n blocks until it is told to stop */
	_Atomic unsigned holding; /* and so many do */
	_Atomic unsigned served;  /* calls */
	_Atomic unsigned echoed;  /* chains */
	_Atomic unsigned resets, driver_oks;
	u64 features; /* what driver_ok() was told */
	bool destroyed;
};

/* What the engine was asked to watch; `gpa` 0: free. */
struct notifier {
	u64 gpa;
	unsigned len;
	int eventfd;
};

struct breach;

struct fixture {
	struct fake_guest guest;
	const struct breach *breach;
	struct toy toy;
	pthread_mutex_t lock; /* guards notifiers */
	struct notifier notifiers[NOTIFIERS];
};

/* The toy */

static struct toy *toy_of(struct virtio_device *device)
{
	return container_of(device, struct toy, virtio);
}

static unsigned echo(struct toy *toy)
{
	struct chain chain;
	int taken;

	while ((taken = virtio_pop(&toy->virtio, ECHO, &chain)) > 0) {
		u8 data[256];
		size_t n = chain_read(&chain, 0, data, sizeof(data));

		n = chain_write(&chain, 0, data, n);
		toy->echoed++;
		queue_push(virtio_queue(&toy->virtio, ECHO), &chain, n);
	}
	return taken ? WAIT_BROKEN : WAIT_KICK;
}

static unsigned tell(struct toy *toy)
{
	struct queue *queue = virtio_queue(&toy->virtio, TELL);
	struct chain chain;
	eventfd_t value;
	int taken;

	if (!queue_pending(queue))
		return WAIT_KICK;
	if (eventfd_read(toy->source, &value))
		return WAIT_SOURCE;
	taken = virtio_pop(&toy->virtio, TELL, &chain);
	if (taken <= 0)
		return taken ? WAIT_BROKEN : WAIT_KICK;
	queue_push(queue, &chain, chain_write(&chain, 0, &value, sizeof(value)));
	return WAIT_SOURCE;
}

static unsigned toy_serve(struct virtio_device *device, unsigned queue)
{
	struct toy *toy = toy_of(device);

	toy->served++;
	if (toy->hold >> queue & 1) {
		struct pollfd stop = {.fd = virtio_stop_fd(device, queue), .events = POLLIN};

		toy->holding++;
		poll(&stop, 1, -1);
		toy->holding--;
	}
	return queue == ECHO ? echo(toy) : tell(toy);
}

static int toy_source(struct virtio_device *device, unsigned queue)
{
	return queue == TELL ? toy_of(device)->source : -1;
}

static u64 toy_config_read(struct virtio_device *device, unsigned offset, unsigned len)
{
	u64 value = 0;

	memcpy(&value, (u8 *)toy_of(device)->config + offset, len);
	return value;
}

static bool toy_config_write(struct virtio_device *device, unsigned offset, unsigned len, u64 value)
{
	if (offset < TOY_WRITES)
		return false;
	memcpy((u8 *)toy_of(device)->config + offset, &value, len);
	return true;
}

static bool toy_features_ok(struct virtio_device *device, u64 features)
{
	(void)device;
	return !(features & TOY_B) || features & TOY_A;
}

static void toy_driver_ok(struct virtio_device *device, u64 features)
{
	toy_of(device)->features = features;
	toy_of(device)->driver_oks++;
}

static void toy_reset(struct virtio_device *device)
{
	toy_of(device)->resets++;
}

static void toy_destroy(struct virtio_device *device)
{
	toy_of(device)->destroyed = true;
}

static const struct virtio_ops toy_ops = {
	.name = "toy",
	.id = TOY_ID,
	.class_code = TOY_CLASS,
	.features = TOY_A | TOY_B,
	.config_len = TOY_CONFIG,
	.serve = toy_serve,
	.source = toy_source,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
	.features_ok = toy_features_ok,
	.driver_ok = toy_driver_ok,
	.reset = toy_reset,
	.destroy = toy_destroy,
};

/* One that has neither configuration nor opinions. */
static const struct virtio_ops plain_ops = {
	.name = "plain",
	.id = TOY_ID,
	.class_code = TOY_CLASS,
	.serve = toy_serve,
};

static const enum queue_direction toy_queues[] = {QUEUE_BOTH, QUEUE_IN};

/* An engine that watches addresses */

static struct fixture *fixture_of(struct engine *engine)
{
	return container_of(container_of(engine, struct fake_engine, engine), struct fixture,
			    guest.engine);
}

static struct notifier *on_write(struct engine *engine, u64 gpa, unsigned len, int eventfd)
{
	struct fixture *f = fixture_of(engine);
	struct notifier *found = NULL;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < NOTIFIERS && !found; i++)
		if (!f->notifiers[i].gpa)
			found = &f->notifiers[i];
	assert_non_null(found);
	*found = (struct notifier){gpa, len, eventfd};
	pthread_mutex_unlock(&f->lock);
	return found;
}

static void remove_notifier(struct engine *engine, struct notifier *notifier)
{
	struct fixture *f = fixture_of(engine);

	pthread_mutex_lock(&f->lock);
	assert_int_not_equal(notifier->gpa, 0);
	notifier->gpa = 0;
	pthread_mutex_unlock(&f->lock);
}

/* The eventfd that a 16-bit write to this address would signal, or -1. */
static int watched(struct fixture *f, u64 gpa)
{
	int fd = -1;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < NOTIFIERS; i++)
		if (f->notifiers[i].gpa == gpa && f->notifiers[i].len == 2)
			fd = f->notifiers[i].eventfd;
	pthread_mutex_unlock(&f->lock);
	return fd;
}

static unsigned watched_count(struct fixture *f)
{
	unsigned count = 0;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < NOTIFIERS; i++)
		count += f->notifiers[i].gpa != 0;
	pthread_mutex_unlock(&f->lock);
	return count;
}

static struct fixture *new_fixture(const struct virtio_ops *ops, bool strict, bool watching)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct problem why;

	assert_non_null(f);
	pthread_mutex_init(&f->lock, NULL);
	fake_guest_init(&f->guest, strict);
	if (watching) {
		f->guest.engine.ops.on_write = on_write;
		f->guest.engine.ops.remove_notifier = remove_notifier;
	}
	f->toy.virtio.ops = ops;
	f->toy.source = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(virtio_plug(&f->toy.virtio, &f->guest.pci, FAKE_GUEST_SLOT,
				     &f->guest.machine, f->guest.memory, toy_queues,
				     ARRAY_SIZE(toy_queues), &why),
			 0);
	fake_guest_power_on(&f->guest);
	return f;
}

static void free_fixture(struct fixture *f)
{
	virtio_power_on(&f->toy.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->toy.virtio);
	fake_guest_destroy(&f->guest);
	close(f->toy.source);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static int setup(void **state)
{
	*state = new_fixture(&toy_ops, false, false);
	return 0;
}

static int setup_strict(void **state)
{
	*state = new_fixture(&toy_ops, true, false);
	return 0;
}

static int setup_watching(void **state)
{
	*state = new_fixture(&toy_ops, false, true);
	return 0;
}

static int teardown(void **state)
{
	free_fixture(*state);
	return 0;
}

static u64 all_features(void)
{
	return FEATURE_VERSION_1 | RING_RESET | TOY_A;
}

static void add_echo(struct fixture *f, const char *text, u32 room)
{
	struct fake_driver *driver = &f->guest.queues[ECHO];
	struct fake_buffer buffers[] = {
		fake_readable(driver, text, strlen(text)),
		fake_writable(driver, room),
	};

	assert_true(fake_driver_add(driver, buffers, 2) >= 0);
}

/* The whole of a round: what is sent comes back. */
static void assert_echoes(struct fixture *f)
{
	u16 head;

	add_echo(f, "hello", 16);
	submit(&f->guest, ECHO);
	assert_int_equal(await_used(&f->guest, ECHO, &head), 5);
	assert_memory_equal(
		fake_driver_at(&f->guest.queues[ECHO], f->guest.queues[ECHO].heap - 16, 5), "hello",
		5);
}

static u8 isr_get(struct fixture *f)
{
	return fake_guest_read(&f->guest, 0, REGISTERS_ISR, 1);
}

static bool pci_interrupt_status(struct fixture *f)
{
	return pci_config_read(fake_guest_device(&f->guest), PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;
}

/* PCI-5, PCI-6 */

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);

	assert_int_equal(pci_config_read(device, PCI_VENDOR_ID, 2), 0x1af4);
	assert_int_equal(pci_config_read(device, PCI_DEVICE_ID, 2), 0x1040 + TOY_ID);
	assert_true(pci_config_read(device, PCI_REVISION_ID, 1) >= 1);
	assert_int_equal(pci_config_read(device, PCI_CLASS_REVISION, 4) >> 8, TOY_CLASS);
	assert_true(pci_config_read(device, PCI_SUBSYSTEM_ID, 2) >= 0x40);
}

static unsigned find_capability(struct fixture *f, u8 type)
{
	struct pci_device *device = fake_guest_device(&f->guest);
	unsigned at = pci_config_read(device, PCI_CAPABILITY_LIST, 1);

	for (unsigned i = 0; at && i < 48; i++) {
		if (pci_config_read(device, at, 1) == PCI_CAP_ID_VNDR &&
		    pci_config_read(device, at + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type)
			return at;
		at = pci_config_read(device, at + PCI_CAP_LIST_NEXT, 1);
	}
	return 0;
}

static void assert_structure(struct fixture *f, u8 type, u32 offset, u32 length, u8 cap_len)
{
	struct pci_device *device = fake_guest_device(&f->guest);
	const unsigned at = find_capability(f, type);

	assert_int_not_equal(at, 0);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_LEN, 1), cap_len);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_BAR, 1), 0);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_OFFSET, 4), offset);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_LENGTH, 4), length);
}

static void test_capabilities(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);
	unsigned at;

	assert_structure(f, VIRTIO_PCI_CAP_COMMON_CFG, REGISTERS_COMMON, 60, 16);
	assert_structure(f, VIRTIO_PCI_CAP_NOTIFY_CFG, REGISTERS_NOTIFY, 8, 20);
	assert_structure(f, VIRTIO_PCI_CAP_ISR_CFG, REGISTERS_ISR, 1, 16);
	assert_structure(f, VIRTIO_PCI_CAP_DEVICE_CFG, REGISTERS_DEVICE, TOY_CONFIG, 16);
	assert_structure(f, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 20);

	/* PCI-8 */
	at = find_capability(f, VIRTIO_PCI_CAP_NOTIFY_CFG);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);

	/* PCI-7: a vector for each queue, and one for configuration. */
	at = pci_config_read(device, PCI_CAPABILITY_LIST, 1);
	while (at && pci_config_read(device, at, 1) != PCI_CAP_ID_MSIX)
		at = pci_config_read(device, at + PCI_CAP_LIST_NEXT, 1);
	assert_int_not_equal(at, 0);
	assert_int_equal(pci_config_read(device, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE, 2);
}

static void test_no_configuration_no_capability(void **state)
{
	struct fixture *f = new_fixture(&plain_ops, false, false);

	(void)state;
	assert_int_equal(find_capability(f, VIRTIO_PCI_CAP_DEVICE_CFG), 0);
	assert_int_not_equal(find_capability(f, VIRTIO_PCI_CAP_COMMON_CFG), 0);
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	assert_echoes(f);
	free_fixture(f);
}

static void test_slot_taken(void **state)
{
	struct fixture *f = *state;
	struct toy other = {.virtio.ops = &toy_ops, .virtio.name = "toy1"};
	struct problem why;

	assert_int_equal(virtio_plug(&other.virtio, &f->guest.pci, FAKE_GUEST_SLOT,
				     &f->guest.machine, f->guest.memory, toy_queues,
				     ARRAY_SIZE(toy_queues), &why),
			 -EBUSY);
	assert_non_null(strstr(why.text, "toy1"));
}

/* Registers */

static void assert_as_at_power_on(struct fixture *f)
{
	struct fake_guest *guest = &f->guest;

	assert_int_equal(status_get(guest), 0);
	assert_int_equal(isr_get(f), 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_DFSELECT), 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_GFSELECT), 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_GF), 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_Q_SELECT), 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_NUMQ), 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(queue_get(guest, i, VIRTIO_PCI_COMMON_Q_SIZE), 256);
		assert_int_equal(queue_get(guest, i, VIRTIO_PCI_COMMON_Q_MSIX),
				 VIRTIO_MSI_NO_VECTOR);
		assert_int_equal(queue_get(guest, i, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
		assert_int_equal(queue_get(guest, i, VIRTIO_PCI_COMMON_Q_NOFF), i);
		assert_int_equal(queue_get(guest, i, VIRTIO_PCI_COMMON_Q_RESET), 0);
		for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO;
		     field <= VIRTIO_PCI_COMMON_Q_USEDHI; field += 4)
			assert_int_equal(queue_get(guest, i, field), 0);
	}
	common_set(guest, VIRTIO_PCI_COMMON_Q_SELECT, 0);
}

static void test_power_on(void **state)
{
	assert_as_at_power_on(*state);
}

static void test_absent_queue_reads_as_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(queue_get(&f->guest, 2, VIRTIO_PCI_COMMON_Q_SIZE), 0);
	assert_int_equal(queue_get(&f->guest, 0xffff, VIRTIO_PCI_COMMON_Q_SIZE), 0);
	assert_int_equal(queue_get(&f->guest, 2, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(status_get(&f->guest), 0);
}

static void test_features(void **state)
{
	struct fixture *f = *state;
	struct fake_guest *guest = &f->guest;

	bring_up(guest, STAGE_DRIVER, 0);
	assert_int_equal(offered_features(guest), TOY_A | TOY_B | FEATURE_VERSION_1 | RING_RESET |
							  RING_PACKED | EVENT_IDX |
							  1ull << VIRTIO_RING_F_INDIRECT_DESC);
	common_set(guest, VIRTIO_PCI_COMMON_DFSELECT, 2);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_DF), 0);
	common_set(guest, VIRTIO_PCI_COMMON_DFSELECT, 0xffffffff);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_DF), 0);

	/* VT-3: what was written reads back, good or bad. */
	accept_features(guest, FEATURE_VERSION_1 | 1ull << 20);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_GF), FEATURE_VERSION_1 >> 32);
	common_set(guest, VIRTIO_PCI_COMMON_GFSELECT, 0);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_GF), 1u << 20);
	common_set(guest, VIRTIO_PCI_COMMON_GFSELECT, 2);
	assert_int_equal(common_get(guest, VIRTIO_PCI_COMMON_GF), 0);
}

/* VT-3: not offered; no VERSION_1; one without what it depends on. */
static const u64 bad_features[] = {
	FEATURE_VERSION_1 | 1ull << 20,
	TOY_A,
	FEATURE_VERSION_1 | TOY_B,
};

static void test_refused_features(void **state)
{
	struct fixture *f = *state;
	struct fake_guest *guest = &f->guest;

	for (unsigned i = 0; i < ARRAY_SIZE(bad_features); i++) {
		bring_up(guest, STAGE_DRIVER, 0);
		accept_features(guest, bad_features[i]);
		status_add(guest, VIRTIO_CONFIG_S_FEATURES_OK);
		assert_int_equal(status_get(guest),
				 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	}
	/* The driver may think again. */
	accept_features(guest, FEATURE_VERSION_1 | TOY_A | TOY_B);
	status_add(guest, VIRTIO_CONFIG_S_FEATURES_OK);
	assert_true(status_get(guest) & VIRTIO_CONFIG_S_FEATURES_OK);
	assert_string_equal(fake_guest_said(guest), "");
}

static void test_refused_features_strict(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad_features); i++) {
		struct fixture *f = new_fixture(&toy_ops, true, false);

		bring_up(&f->guest, STAGE_DRIVER, 0);
		accept_features(&f->guest, bad_features[i]);
		status_add(&f->guest, VIRTIO_CONFIG_S_FEATURES_OK);
		assert_false(machine_running(&f->guest.machine));
		assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
		assert_non_null(strstr(f->guest.machine.why, "toy: VT-3: "));
		free_fixture(f);
	}
}

static void test_settled_features_reach_the_device(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_QUEUES, FEATURE_VERSION_1 | TOY_A | TOY_B);
	assert_int_equal(f->toy.driver_oks, 0);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(f->toy.driver_oks, 1);
	assert_int_equal(f->toy.features, FEATURE_VERSION_1 | TOY_A | TOY_B);
}

/* VT-9: in either order. */
static void test_address_halves(void **state)
{
	struct fixture *f = *state;
	const u32 low = 0x12345670, high = 0x9abcdef0;

	bring_up(&f->guest, STAGE_FEATURES, all_features());
	for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO; field < VIRTIO_PCI_COMMON_Q_NDATA;
	     field += 8) {
		for (unsigned order = 0; order < 2; order++) {
			queue_set(&f->guest, 0, order ? field + 4 : field, order ? high : low);
			queue_set(&f->guest, 0, order ? field : field + 4, order ? low : high);
			assert_int_equal(common_get(&f->guest, field), low);
			assert_int_equal(common_get(&f->guest, field + 4), high);
		}
		assert_int_equal(queue_get(&f->guest, 1, field), 0);
	}
}

static void test_vectors(void **state)
{
	struct fixture *f = *state;

	/* Three vectors: 0, 1, 2. What the table does not have becomes none. */
	for (u32 vector = 0; vector < 3; vector++) {
		common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, vector);
		assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_MSIX), vector);
		queue_set(&f->guest, 1, VIRTIO_PCI_COMMON_Q_MSIX, vector);
		assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_MSIX), vector);
	}
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 3);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_MSIX), VIRTIO_MSI_NO_VECTOR);
	common_set(&f->guest, VIRTIO_PCI_COMMON_Q_MSIX, 0x7ff);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_MSIX), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(status_get(&f->guest), 0);
}

/* Queues and interrupts */

static void test_intx(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_int_equal(isr_get(f), 0);
	assert_echoes(f);
	AWAIT(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 1);
	assert_false(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 0);

	/* And again, now that the wire is low. */
	assert_echoes(f);
	AWAIT(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 1);
}

static void test_event_idx(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features() | EVENT_IDX);
	for (unsigned i = 0; i < 40; i++)
		assert_echoes(f);
}

static void test_msix(void **state)
{
	struct fixture *f = *state;
	struct fake_message message;
	u16 head;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	AWAIT(fake_engine_take(&f->guest.engine, &message));
	assert_int_equal(message.address, FAKE_MSI_ADDRESS);
	assert_int_equal(message.data, FAKE_MSI_DATA + ECHO + 1);
	assert_int_equal(isr_get(f), 0);

	/* The other queue has its own. */
	assert_true(
		fake_driver_add(&f->guest.queues[TELL],
				(struct fake_buffer[]){fake_writable(&f->guest.queues[TELL], 8)},
				1) >= 0);
	submit(&f->guest, TELL);
	eventfd_write(f->toy.source, 7);
	assert_int_equal(await_used(&f->guest, TELL, &head), 8);
	AWAIT(fake_engine_take(&f->guest.engine, &message));
	assert_int_equal(message.data, FAKE_MSI_DATA + TELL + 1);
}

/* The reset waits for the thread, which has passed the point where it would interrupt by then. */
static void test_no_vector_no_interrupt(void **state)
{
	struct fixture *f = *state;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	queue_set(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_MSIX, VIRTIO_MSI_NO_VECTOR);
	assert_echoes(f);
	virtio_config_begin(&f->toy.virtio);
	virtio_config_changed(&f->toy.virtio);
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(fake_engine_sent(&f->guest.engine), 0);
}

static void test_one_interrupt_a_batch(void **state)
{
	struct fixture *f = *state;
	u16 head;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_QUEUES, all_features());
	/* All there before the device looks for the first time. */
	for (unsigned i = 0; i < 8; i++)
		add_echo(f, "batch", 16);
	fake_driver_publish(&f->guest.queues[ECHO]);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned i = 0; i < 8; i++)
		await_used(&f->guest, ECHO, &head);
	AWAIT(fake_engine_sent(&f->guest.engine));
	common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, 0);
	assert_int_equal(fake_engine_sent(&f->guest.engine), 1);
}

/* No wake-up is lost: each round needs the one before. */
static void test_no_kick_is_lost(void **state)
{
	struct fixture *f = *state;

	for (unsigned events = 0; events < 2; events++) {
		bring_up(&f->guest, STAGE_LIVE, all_features() | (events ? EVENT_IDX : 0));
		for (unsigned i = 0; i < 3000; i++)
			assert_echoes(f);
		assert_int_equal(f->toy.echoed, 3000 * (events + 1));
	}
}

static void test_32_bit_notification(void **state)
{
	struct fixture *f = *state;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	add_echo(f, "wide", 16);
	fake_driver_publish(&f->guest.queues[ECHO]);
	fake_guest_write(&f->guest, 0, REGISTERS_NOTIFY + ECHO * 4, 4, ECHO);
	assert_int_equal(await_used(&f->guest, ECHO, &head), 4);
}

/* Device configuration */

static void change(struct fixture *f, u32 value)
{
	virtio_config_begin(&f->toy.virtio);
	f->toy.config[0] = value;
	virtio_config_changed(&f->toy.virtio);
}

static void test_configuration(void **state)
{
	struct fixture *f = *state;

	change(f, 0x44332211);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_DEVICE, 4), 0x44332211);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_DEVICE + 2, 2), 0x4433);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_DEVICE + 3, 1), 0x44);
	fake_guest_write(&f->guest, 0, REGISTERS_DEVICE + 6, 2, 0xbeef);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_DEVICE + 4, 4), 0xbeef0000);
	assert_int_equal(fake_guest_read(&f->guest, 0, REGISTERS_DEVICE, 8), 0xbeef000044332211);
	assert_int_equal(status_get(&f->guest), 0);
}

static void test_generation(void **state)
{
	struct fixture *f = *state;
	u8 before = common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION);

	fake_guest_read(&f->guest, 0, REGISTERS_DEVICE, 4);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION), before);

	/* Even 256 changes between two reads are seen. */
	for (unsigned i = 0; i < 256; i++)
		change(f, i);
	fake_guest_read(&f->guest, 0, REGISTERS_DEVICE, 4);
	assert_int_not_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION), before);
}

static void test_configuration_interrupt(void **state)
{
	struct fixture *f = *state;
	struct fake_message message;

	/* Nobody listens before DRIVER_OK. */
	bring_up(&f->guest, STAGE_QUEUES, all_features());
	change(f, 1);
	assert_false(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 0);

	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	change(f, 2);
	assert_true(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 2);
	assert_false(pci_interrupt_status(f));

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 0);
	change(f, 3);
	AWAIT(fake_engine_take(&f->guest.engine, &message));
	assert_int_equal(message.data, FAKE_MSI_DATA);
	assert_int_equal(isr_get(f), 2);
}

/* Violations */

static void put(struct fixture *f, u64 offset, unsigned len, u64 value)
{
	fake_guest_write(&f->guest, 0, offset, len, value);
}

static void get(struct fixture *f, u64 offset, unsigned len)
{
	fake_guest_read(&f->guest, 0, offset, len);
}

#define STATUS(value)		   common_set(&f->guest, VIRTIO_PCI_COMMON_STATUS, value)
#define QUEUE(queue, field, value) queue_set(&f->guest, queue, VIRTIO_PCI_COMMON_Q_##field, value)

static void unknown_status(struct fixture *f)
{
	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE | 0x10);
}

static void status_taken_away(struct fixture *f)
{
	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE);
}

static void driver_first(struct fixture *f)
{
	STATUS(VIRTIO_CONFIG_S_DRIVER);
}

static void driver_ok_early(struct fixture *f)
{
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void status_all_at_once(struct fixture *f)
{
	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
}

static void features_not_confirmed(struct fixture *f)
{
	accept_features(&f->guest, all_features());
	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	STATUS(COMMON_LIVE);
}

static void queue_not_confirmed(struct fixture *f)
{
	accept_features(&f->guest, all_features());
	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	QUEUE(0, SIZE, 8);
}

/* What was seen in an earlier life does not count. */
static void not_confirmed_again(struct fixture *f)
{
	bring_up(&f->guest, STAGE_DRIVER, 0);
	features_not_confirmed(f);
}

static void features_read_early(struct fixture *f)
{
	common_get(&f->guest, VIRTIO_PCI_COMMON_DF);
}

static void features_written(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_GF, TOY_A);
}

static void features_beyond(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_GFSELECT, 2);
	common_set(&f->guest, VIRTIO_PCI_COMMON_GF, 1);
}

static void size_zero(struct fixture *f)
{
	QUEUE(0, SIZE, 0);
}

static void size_crooked(struct fixture *f)
{
	QUEUE(0, SIZE, 48);
}

static void size_huge(struct fixture *f)
{
	QUEUE(0, SIZE, 512);
}

static void size_late(struct fixture *f)
{
	QUEUE(1, SIZE, 8);
}

static void absent_size(struct fixture *f)
{
	QUEUE(2, SIZE, 8);
}

static void absent_vector(struct fixture *f)
{
	QUEUE(0xffff, MSIX, 0);
}

static void absent_enable(struct fixture *f)
{
	QUEUE(2, ENABLE, 1);
}

static void enable_zero(struct fixture *f)
{
	QUEUE(0, ENABLE, 0);
}

static void enable_two(struct fixture *f)
{
	QUEUE(0, ENABLE, 2);
}

static void enable_blank(struct fixture *f)
{
	QUEUE(0, ENABLE, 1);
}

static void lay_out_and(struct fixture *f, unsigned field, u64 value)
{
	queue_lay_out(&f->guest, 0, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, 0);
	queue_set(&f->guest, 0, field, value);
	queue_set(&f->guest, 0, field + 4, value >> 32);
	QUEUE(0, ENABLE, 1);
}

static void desc_crooked(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_DESCLO, MiB(1) + 8);
}

static void avail_crooked(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_AVAILLO, MiB(1) + 1);
}

static void used_crooked(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_USEDLO, MiB(1) + 2);
}

static void desc_outside(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_DESCLO, FAKE_GUEST_RAM);
}

/* Two bytes too few, which are those of used_event. */
static void avail_at_the_end(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_AVAILLO, FAKE_GUEST_RAM - (4 + 2 * 16));
}

static void used_wraps(struct fixture *f)
{
	lay_out_and(f, VIRTIO_PCI_COMMON_Q_USEDLO, ~0ull - 3);
}

/* Split rings would not mind: they are aligned to two bytes. */
static void packed_event_crooked(struct fixture *f)
{
	bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1 | RING_PACKED);
	queue_lay_out(&f->guest, 0, 16, RING_PACKED);
	queue_place(&f->guest, 0);
	QUEUE(0, AVAILLO, MiB(1) + 2);
	QUEUE(0, ENABLE, 1);
}

static void packed_size_zero(struct fixture *f)
{
	bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1 | RING_PACKED);
	QUEUE(0, SIZE, 0);
}

static void packed_size_huge(struct fixture *f)
{
	bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1 | RING_PACKED);
	QUEUE(0, SIZE, 257);
}

static void used_flags(struct fixture *f)
{
	queue_lay_out(&f->guest, 0, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, 0);
	f->guest.queues[0].used->flags = 1;
	QUEUE(0, ENABLE, 1);
}

static void enable_before_features(struct fixture *f)
{
	QUEUE(0, ENABLE, 1);
}

static void enable_late(struct fixture *f)
{
	bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	queue_lay_out(&f->guest, 0, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, 0);
	QUEUE(0, ENABLE, 1);
}

static void address_live(struct fixture *f)
{
	QUEUE(1, USEDHI, 0);
}

static void address_early(struct fixture *f)
{
	QUEUE(0, DESCLO, MiB(1));
}

static void size_early(struct fixture *f)
{
	QUEUE(0, SIZE, 16);
}

static void write_device_feature(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_DF, 0);
}

static void write_num_queues(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_NUMQ, 2);
}

static void write_generation(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION, 0);
}

static void write_notify_off(struct fixture *f)
{
	QUEUE(0, NOFF, 0);
}

static void write_notify_data(struct fixture *f)
{
	QUEUE(0, NDATA, 0);
}

static void write_isr(struct fixture *f)
{
	put(f, REGISTERS_ISR, 1, 0);
}

static void write_capability(struct fixture *f)
{
	pci_config_write(fake_guest_device(&f->guest),
			 find_capability(f, VIRTIO_PCI_CAP_ISR_CFG) + VIRTIO_PCI_CAP_OFFSET, 4, 0);
}

static void write_capability_padding(struct fixture *f)
{
	pci_config_write(fake_guest_device(&f->guest),
			 find_capability(f, VIRTIO_PCI_CAP_PCI_CFG) + VIRTIO_PCI_CAP_BAR + 2, 1, 1);
}

static void vector_beyond(struct fixture *f)
{
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 3);
}

static void queue_vector_beyond(struct fixture *f)
{
	QUEUE(0, MSIX, 3);
}

static void status_wide(struct fixture *f)
{
	put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_STATUS, 4, 0);
}

static void size_narrow(struct fixture *f)
{
	put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_Q_SIZE, 1, 16);
}

static void address_at_once(struct fixture *f)
{
	put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 8, MiB(1));
}

static void feature_half(struct fixture *f)
{
	get(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_GF + 2, 2);
}

static void past_common(struct fixture *f)
{
	get(f, REGISTERS_COMMON + 60, 2);
}

static void isr_wide(struct fixture *f)
{
	get(f, REGISTERS_ISR, 4);
}

static void past_isr(struct fixture *f)
{
	put(f, REGISTERS_ISR + 1, 1, 0);
}

static void past_configuration(struct fixture *f)
{
	get(f, REGISTERS_DEVICE + TOY_CONFIG, 4);
}

static void configuration_crooked(struct fixture *f)
{
	get(f, REGISTERS_DEVICE + 1, 2);
}

static void past_notifications(struct fixture *f)
{
	get(f, REGISTERS_NOTIFY + 8, 2);
}

static void across_notifications(struct fixture *f)
{
	get(f, REGISTERS_NOTIFY + 6, 4);
}

static void last_of_bar(struct fixture *f)
{
	get(f, KiB(16) - 1, 1);
}

static void notify_echo(struct fixture *f)
{
	notify(&f->guest, ECHO);
}

static void notify_absent(struct fixture *f)
{
	notify(&f->guest, 2);
}

static void notify_last_of_bar(struct fixture *f)
{
	put(f, KiB(16) - 4, 2, 0);
}

static void notify_not_enabled(struct fixture *f)
{
	bring_up(&f->guest, STAGE_FEATURES, all_features());
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	notify(&f->guest, ECHO);
}

static void notify_narrow(struct fixture *f)
{
	put(f, REGISTERS_NOTIFY, 1, 0);
}

static void notify_between(struct fixture *f)
{
	put(f, REGISTERS_NOTIFY + 2, 2, 0);
}

static void notify_other_value(struct fixture *f)
{
	put(f, REGISTERS_NOTIFY + ECHO * 4, 2, TELL);
}

static void write_configuration(struct fixture *f)
{
	put(f, REGISTERS_DEVICE, 4, 1);
}

static void window_nowhere(struct fixture *f)
{
	pci_config_read(fake_guest_device(&f->guest),
			find_capability(f, VIRTIO_PCI_CAP_PCI_CFG) + 16, 4);
}

static void reset_two(struct fixture *f)
{
	QUEUE(0, RESET, 2);
}

static void reset_zero(struct fixture *f)
{
	QUEUE(0, RESET, 0);
}

static void reset_not_negotiated(struct fixture *f)
{
	bring_up(&f->guest, STAGE_LIVE, FEATURE_VERSION_1);
	QUEUE(0, RESET, 1);
}

#define BREACH(function) #function, function

static const struct breach {
	const char *rule, *name;
	void (*commit)(struct fixture *f);
	enum stage stage;
	bool strict_only;
} breaches[] = {
	{"VT-1", BREACH(unknown_status), STAGE_RESET, false},
	{"VT-1", BREACH(status_taken_away), STAGE_DRIVER, false},
	{"VT-1", BREACH(status_taken_away), STAGE_LIVE, false},
	{"VT-1", BREACH(driver_first), STAGE_RESET, false},
	{"VT-1", BREACH(driver_ok_early), STAGE_DRIVER, false},
	{"VT-1", BREACH(status_all_at_once), STAGE_RESET, true},
	{"VT-2", BREACH(features_not_confirmed), STAGE_DRIVER, true},
	{"VT-2", BREACH(not_confirmed_again), STAGE_LIVE, true},
	{"VT-2", BREACH(queue_not_confirmed), STAGE_DRIVER, true},
	{"VT-3", BREACH(features_read_early), STAGE_ACKNOWLEDGED, true},
	{"VT-3", BREACH(features_written), STAGE_ACKNOWLEDGED, false},
	{"VT-3", BREACH(features_written), STAGE_FEATURES, false},
	{"VT-3", BREACH(features_beyond), STAGE_DRIVER, false},
	{"VT-4", BREACH(size_zero), STAGE_FEATURES, false},
	{"VT-4", BREACH(size_crooked), STAGE_FEATURES, false},
	{"VT-4", BREACH(size_huge), STAGE_FEATURES, false},
	{"VT-4", BREACH(packed_size_zero), STAGE_RESET, false},
	{"VT-4", BREACH(packed_size_huge), STAGE_RESET, false},
	{"VT-4", BREACH(size_late), STAGE_QUEUES, false},
	{"VT-4", BREACH(size_late), STAGE_LIVE, false},
	{"VT-5", BREACH(absent_size), STAGE_FEATURES, false},
	{"VT-5", BREACH(absent_vector), STAGE_FEATURES, false},
	{"VT-5", BREACH(absent_enable), STAGE_FEATURES, false},
	{"VT-6", BREACH(enable_zero), STAGE_FEATURES, false},
	{"VT-6", BREACH(enable_zero), STAGE_QUEUES, false},
	{"VT-6", BREACH(enable_two), STAGE_FEATURES, false},
	{"VT-6", BREACH(enable_blank), STAGE_FEATURES, false},
	{"VT-6", BREACH(desc_crooked), STAGE_FEATURES, false},
	{"VT-6", BREACH(avail_crooked), STAGE_FEATURES, false},
	{"VT-6", BREACH(used_crooked), STAGE_FEATURES, false},
	{"VT-6", BREACH(desc_outside), STAGE_FEATURES, false},
	{"VT-6", BREACH(avail_at_the_end), STAGE_FEATURES, false},
	{"VT-6", BREACH(used_wraps), STAGE_FEATURES, false},
	{"VT-6", BREACH(packed_event_crooked), STAGE_RESET, false},
	{"VT-6", BREACH(used_flags), STAGE_FEATURES, true},
	{"VT-6", BREACH(enable_before_features), STAGE_DRIVER, false},
	{"VT-6", BREACH(enable_late), STAGE_RESET, true},
	{"VT-7", BREACH(address_live), STAGE_LIVE, false},
	{"VT-7", BREACH(address_early), STAGE_DRIVER, true},
	{"VT-7", BREACH(size_early), STAGE_DRIVER, true},
	{"VT-8", BREACH(write_device_feature), STAGE_DRIVER, false},
	{"VT-8", BREACH(write_num_queues), STAGE_RESET, false},
	{"VT-8", BREACH(write_generation), STAGE_LIVE, false},
	{"VT-8", BREACH(write_notify_off), STAGE_FEATURES, false},
	{"VT-8", BREACH(write_notify_data), STAGE_FEATURES, false},
	{"VT-8", BREACH(write_isr), STAGE_LIVE, false},
	{"VT-8", BREACH(write_capability), STAGE_RESET, false},
	{"VT-8", BREACH(write_capability_padding), STAGE_RESET, false},
	{"VT-8", BREACH(vector_beyond), STAGE_FEATURES, true},
	{"VT-8", BREACH(queue_vector_beyond), STAGE_FEATURES, true},
	{"VT-9", BREACH(status_wide), STAGE_RESET, false},
	{"VT-9", BREACH(size_narrow), STAGE_FEATURES, false},
	{"VT-9", BREACH(address_at_once), STAGE_FEATURES, false},
	{"VT-9", BREACH(feature_half), STAGE_DRIVER, false},
	{"VT-9", BREACH(past_common), STAGE_RESET, false},
	{"VT-9", BREACH(isr_wide), STAGE_LIVE, false},
	{"VT-9", BREACH(past_isr), STAGE_LIVE, false},
	{"VT-9", BREACH(past_configuration), STAGE_RESET, false},
	{"VT-9", BREACH(configuration_crooked), STAGE_RESET, false},
	{"VT-9", BREACH(past_notifications), STAGE_RESET, false},
	{"VT-9", BREACH(across_notifications), STAGE_LIVE, false},
	{"VT-9", BREACH(last_of_bar), STAGE_LIVE, false},
	{"VT-10", BREACH(notify_echo), STAGE_RESET, false},
	{"VT-10", BREACH(notify_echo), STAGE_QUEUES, false},
	{"VT-10", BREACH(notify_absent), STAGE_LIVE, false},
	{"VT-10", BREACH(notify_last_of_bar), STAGE_LIVE, false},
	{"VT-10", BREACH(notify_not_enabled), STAGE_RESET, false},
	{"VT-10", BREACH(notify_narrow), STAGE_LIVE, false},
	{"VT-10", BREACH(notify_between), STAGE_LIVE, false},
	{"VT-10", BREACH(notify_other_value), STAGE_LIVE, true},
	{"VT-11", BREACH(write_configuration), STAGE_LIVE, false},
	{"VT-12", BREACH(window_nowhere), STAGE_RESET, true},
	{"VT-14", BREACH(reset_two), STAGE_LIVE, false},
	{"VT-14", BREACH(reset_zero), STAGE_LIVE, false},
	{"VT-14", BREACH(reset_not_negotiated), STAGE_RESET, false},
};

static unsigned count_lines(const char *text)
{
	unsigned lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

/* "lguest: toy: VT-1: ...", or "lguest: toy: queue 0: VT-4: ..." */
static void assert_one_line(const char *said, const char *rule)
{
	char expected[16];

	snprintf(expected, sizeof(expected), " %s: ", rule);
	assert_int_equal(strncmp(said, "lguest: toy: ", strlen("lguest: toy: ")), 0);
	assert_non_null(strstr(said, expected));
	assert_int_equal(count_lines(said), 1);
}

/* Queues are not served, the rest still answers; and only a reset helps. */
static void assert_broken(struct fixture *f, u8 bit)
{
	const unsigned echoed = f->toy.echoed;

	assert_true(status_get(&f->guest) & bit);
	get(f, REGISTERS_DEVICE, 4);
	status_taken_away(f);
	notify_absent(f);
	size_zero(f);
	if (f->guest.queues[ECHO].memory) {
		add_echo(f, "in vain", 16);
		fake_driver_publish(&f->guest.queues[ECHO]);
		notify(&f->guest, ECHO);
	}
	assert_true(status_get(&f->guest) & bit);
	assert_string_equal(fake_guest_said(&f->guest), "");

	bring_up(&f->guest, STAGE_RESET, 0);
	assert_as_at_power_on(f);
	assert_int_equal(f->toy.echoed, echoed);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
	assert_string_equal(fake_guest_said(&f->guest), "");
}

static void test_breach(void **state)
{
	struct fixture *f = *state;
	const struct breach *b = f->breach;
	bool was_live;

	bring_up(&f->guest, b->stage, all_features());
	isr_get(f);
	b->commit(f);
	assert_true(machine_running(&f->guest.machine));
	was_live = status_get(&f->guest) & VIRTIO_CONFIG_S_DRIVER_OK;
	if (b->strict_only) {
		assert_false(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
		assert_string_equal(fake_guest_said(&f->guest), "");
		return;
	}
	assert_one_line(fake_guest_said(&f->guest), b->rule);
	/* After DRIVER_OK, and only then, the driver is told. */
	assert_int_equal(pci_interrupt_status(f), was_live);
	assert_int_equal(isr_get(f) & 2, was_live ? 2 : 0);
	assert_broken(f, VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_breach_strict(void **state)
{
	struct fixture *f = *state;
	const struct breach *b = f->breach;
	char expected[16];

	bring_up(&f->guest, b->stage, all_features());
	assert_true(machine_running(&f->guest.machine));
	b->commit(f);
	assert_false(machine_running(&f->guest.machine));
	assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
	snprintf(expected, sizeof(expected), " %s: ", b->rule);
	assert_int_equal(strncmp(f->guest.machine.why, "toy: ", 5), 0);
	assert_non_null(strstr(f->guest.machine.why, expected));
	/* It is said where the machine's end is said, not twice. */
	assert_string_equal(fake_guest_said(&f->guest), "");
}

static int setup_breach(void **state)
{
	const struct breach *breach = *state;
	struct fixture *f = new_fixture(&toy_ops, false, false);

	f->breach = breach;
	*state = f;
	return 0;
}

static int setup_breach_strict(void **state)
{
	const struct breach *breach = *state;
	struct fixture *f = new_fixture(&toy_ops, true, false);

	f->breach = breach;
	*state = f;
	return 0;
}

/* Each breach is two tests, so that each has a name and a fixture of its own. */
static int run_breaches(void)
{
	struct CMUnitTest tests[2 * ARRAY_SIZE(breaches)];
	static char names[ARRAY_SIZE(breaches)][64];

	for (unsigned i = 0; i < ARRAY_SIZE(breaches); i++) {
		snprintf(names[i], sizeof(names[i]), "%s: %s", breaches[i].rule, breaches[i].name);
		tests[2 * i] = (struct CMUnitTest){names[i], test_breach, setup_breach, teardown,
						   (void *)&breaches[i]};
		tests[2 * i + 1] =
			(struct CMUnitTest){names[i], test_breach_strict, setup_breach_strict,
					    teardown, (void *)&breaches[i]};
	}
	return cmocka_run_group_tests_name("breaches", tests, NULL, NULL);
}

/* What strict-only rules mean where they are not enforced: the obvious. */
static void test_lenient(void **state)
{
	struct fixture *f = *state;

	STATUS(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	accept_features(&f->guest, FEATURE_VERSION_1);
	queue_lay_out(&f->guest, ECHO, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, ECHO);
	f->guest.queues[ECHO].used->flags = 1;
	STATUS(COMMON_LIVE);
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
	QUEUE(ECHO, ENABLE, 1);
	assert_echoes(f);
	put(f, REGISTERS_NOTIFY + ECHO * 4, 2, TELL);
	assert_echoes(f);
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
}

/* Features that are refused leave nothing for DRIVER_OK to stand on. */
static void test_all_at_once_with_bad_features(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_DRIVER, 0);
	STATUS(COMMON_LIVE);
	assert_int_equal(status_get(&f->guest), VIRTIO_CONFIG_S_ACKNOWLEDGE |
							VIRTIO_CONFIG_S_DRIVER |
							VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_one_line(fake_guest_said(&f->guest), "VT-1");
}

static void test_harmless(void **state)
{
	struct fixture *f = *state;

	/* Strict, and still none of this is wrong. */
	bring_up(&f->guest, STAGE_LIVE, all_features());
	STATUS(COMMON_LIVE);
	STATUS(COMMON_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
	queue_get(&f->guest, 7, VIRTIO_PCI_COMMON_Q_SIZE);
	common_set(&f->guest, VIRTIO_PCI_COMMON_Q_SELECT, 0);
	get(f, REGISTERS_NOTIFY, 8); /* all there is */
	get(f, REGISTERS_NOTIFY + 7, 1);
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, VIRTIO_MSI_NO_VECTOR);
	assert_echoes(f);
	STATUS(0);
	STATUS(0);
	/* Common drivers take their vectors away after the reset. */
	QUEUE(0, MSIX, VIRTIO_MSI_NO_VECTOR);
	assert_true(machine_running(&f->guest.machine));
}

static void test_failed(void **state)
{
	struct fixture *f = *state;
	const char *said;

	for (enum stage stage = STAGE_RESET; stage <= STAGE_LIVE; stage++) {
		bring_up(&f->guest, stage, all_features());
		memset(&f->guest.queues[ECHO], 0, sizeof(f->guest.queues[ECHO]));
		status_add(&f->guest, VIRTIO_CONFIG_S_FAILED);
		said = fake_guest_said(&f->guest);
		assert_non_null(strstr(said, "toy: the guest gave the device up"));
		assert_int_equal(count_lines(said), 1);
		status_add(&f->guest, VIRTIO_CONFIG_S_FAILED);
		assert_broken(f, VIRTIO_CONFIG_S_FAILED);
	}
}

/* It is not the device's fault, so not even --strict minds. */
static void test_failed_strict(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	STATUS(VIRTIO_CONFIG_S_FAILED);
	assert_true(machine_running(&f->guest.machine));
	assert_non_null(strstr(fake_guest_said(&f->guest), "gave the device up"));
}

/* After a violation, the guest may give up; that is another line. */
static void test_failed_after_violation(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_DRIVER, 0);
	STATUS(0x10);
	assert_one_line(fake_guest_said(&f->guest), "VT-1");
	status_add(&f->guest, VIRTIO_CONFIG_S_FAILED);
	assert_non_null(strstr(fake_guest_said(&f->guest), "gave the device up"));
	assert_int_equal(status_get(&f->guest) & 0xc0, 0xc0);
}

/* What a queue's own thread finds out. */
static void run_ahead(struct fixture *f)
{
	f->guest.queues[ECHO].added += 17;
	fake_driver_publish(&f->guest.queues[ECHO]);
	notify(&f->guest, ECHO);
}

/* Breaks a rule, or gives up, and resets, so often; how many lines that costs. */
static unsigned flood(struct fixture *f, unsigned times)
{
	unsigned lines = 0;

	for (unsigned i = 0; i < times; i++) {
		STATUS(i % 2 ? VIRTIO_CONFIG_S_FAILED : 0x10);
		assert_true(status_get(&f->guest) & 0xc0);
		STATUS(0);
		lines += count_lines(fake_guest_said(&f->guest));
	}
	return lines;
}

/* A guest does not fill the user's disk; and the device goes on as before. */
static void test_flood(void **state)
{
	struct fixture *f = *state;
	const char *said;

	assert_int_equal(flood(f, 999), 999);
	STATUS(0x10);
	assert_one_line(fake_guest_said(&f->guest), "VT-1");
	STATUS(0);
	STATUS(0x10);
	said = fake_guest_said(&f->guest);
	assert_non_null(strstr(said, "lguest: toy: 1000 lines"));
	assert_non_null(strstr(said, "--verbose"));
	assert_int_equal(count_lines(said), 1);
	virtio_power_on(&f->toy.virtio);
	assert_int_equal(flood(f, 1000), 0);

	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	run_ahead(f);
	AWAIT(isr_get(f) & 2);
	assert_string_equal(fake_guest_said(&f->guest), "");
	f->guest.machine.strict = true;
	STATUS(0);
	STATUS(0x10);
	assert_non_null(strstr(f->guest.machine.why, "VT-1"));
}

static void test_flood_under_verbose(void **state)
{
	struct fixture *f = *state;
	unsigned told = 0;

	log_set_verbose(true);
	for (unsigned i = 0; i < 1100; i++) {
		STATUS(0x10);
		told += !!strstr(fake_guest_said(&f->guest), "toy: VT-1: ");
		STATUS(0);
	}
	log_set_verbose(false);
	assert_int_equal(told, 1100);
	assert_null(strstr(fake_guest_said(&f->guest), "further"));
}

static void test_queue_breach(void **state)
{
	struct fixture *f = *state;
	struct fake_message message;
	unsigned served;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 0);
	run_ahead(f);
	AWAIT(fake_engine_take(&f->guest.engine, &message));
	assert_int_equal(message.data, FAKE_MSI_DATA);
	assert_one_line(fake_guest_said(&f->guest), "VQ-1");

	/* The other queue is not served either. */
	assert_true(
		fake_driver_add(&f->guest.queues[TELL],
				(struct fake_buffer[]){fake_writable(&f->guest.queues[TELL], 8)},
				1) >= 0);
	fake_driver_publish(&f->guest.queues[TELL]);
	notify(&f->guest, TELL);
	eventfd_write(f->toy.source, 1);
	memset(&f->guest.queues[ECHO], 0, sizeof(f->guest.queues[ECHO]));

	/* And neither keeps asking whether it is over: a thread that did would have asked very
	 * often. */
	served = f->toy.served;
	usleep(20000);
	assert_true(f->toy.served - served < 10);
	assert_broken(f, VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_queue_breach_strict(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	run_ahead(f);
	AWAIT(!machine_running(&f->guest.machine));
	assert_int_equal(f->guest.machine.status, EXIT_CRASHED);
	assert_non_null(strstr(f->guest.machine.why, "toy: queue 0: VQ-1: "));
}

/* A word that only queue_wants_interrupt() looks at. */
static void test_avail_flags(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	add_echo(f, "flags", 16);
	f->guest.queues[ECHO].avail->flags = 2;
	fake_driver_publish(&f->guest.queues[ECHO]);
	notify(&f->guest, ECHO);
	AWAIT(status_get(&f->guest) & VIRTIO_CONFIG_S_NEEDS_RESET);
	AWAIT(isr_get(f) == 2);
	assert_one_line(fake_guest_said(&f->guest), "VQ-6");
}

/* Resets */

static void test_reset(void **state)
{
	struct fixture *f = *state;

	enable_msix(&f->guest, 3);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 0);
	common_set(&f->guest, VIRTIO_PCI_COMMON_DFSELECT, 1);
	common_set(&f->guest, VIRTIO_PCI_COMMON_Q_SELECT, 1);
	change(f, 5);
	STATUS(0);
	assert_as_at_power_on(f);
	assert_false(pci_interrupt_status(f));

	/* The wire that a reset leaves asserted would never be heard of again. */
	pci_config_write(fake_guest_device(&f->guest),
			 fake_guest_device(&f->guest)->msix.capability + PCI_MSIX_FLAGS, 2, 0);
	bring_up(&f->guest, STAGE_LIVE, all_features());
	change(f, 6);
	assert_true(pci_interrupt_status(f));
	STATUS(0);
	assert_false(pci_interrupt_status(f));
	assert_int_equal(isr_get(f), 0);
}

/* VT-13: a blocked queue is stopped before status reads back 0. */
static void test_reset_ends_what_blocks(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 50; i++) {
		f->toy.hold = 1 << ECHO | 1 << TELL;
		bring_up(&f->guest, STAGE_LIVE, all_features());
		add_echo(f, "in flight", 16);
		fake_driver_publish(&f->guest.queues[ECHO]);
		AWAIT(f->toy.holding == 2);
		f->toy.hold = 0;
		STATUS(0);
		assert_int_equal(f->toy.holding, 0);
		assert_as_at_power_on(f);
		assert_int_equal(f->guest.queues[ECHO].used->idx, 0);
	}
	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
}

static void test_ring_reset(void **state)
{
	struct fixture *f = *state;
	struct fake_driver *driver = &f->guest.queues[ECHO];

	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	f->toy.hold = 1 << ECHO;
	notify(&f->guest, ECHO);
	AWAIT(f->toy.holding == 1);
	f->toy.hold = 0;
	QUEUE(ECHO, RESET, 1);
	assert_int_equal(f->toy.holding, 0);
	assert_int_equal(queue_get(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_RESET), 0);
	assert_int_equal(queue_get(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	assert_int_equal(queue_get(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_SIZE), 256);
	assert_int_equal(queue_get(&f->guest, TELL, VIRTIO_PCI_COMMON_Q_ENABLE), 1);
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
	assert_int_equal(f->toy.resets, 1); /* bring_up()'s */

	/* Nothing is done with it now. */
	add_echo(f, "late", 16);
	fake_driver_publish(driver);
	virtio_config_begin(&f->toy.virtio);
	virtio_config_changed(&f->toy.virtio);
	assert_int_equal(driver->used->idx, driver->taken);

	/* And it comes back, with another size; also under --strict, for it was negotiated. */
	queue_lay_out(&f->guest, ECHO, 8, FEATURE_VERSION_1);
	queue_place(&f->guest, ECHO);
	QUEUE(ECHO, ENABLE, 1);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_RESET), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_echoes(f);
	assert_true(machine_running(&f->guest.machine));
}

/* The same with packed rings: the new ring begins its first lap, wherever the old one was. */
static void test_ring_reset_packed(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features() | RING_PACKED | EVENT_IDX);
	for (u16 size = 5; size < 9; size++) {
		QUEUE(ECHO, RESET, 1);
		queue_lay_out(&f->guest, ECHO, size, RING_PACKED | EVENT_IDX);
		queue_place(&f->guest, ECHO);
		QUEUE(ECHO, ENABLE, 1);
		for (unsigned i = 0; i < 11; i++)
			assert_echoes(f);
	}
	assert_true(machine_running(&f->guest.machine));
}

/* VT-4: any size will do for packed rings; a reset later, rings may be of the other kind. */
static void test_packed_sizes(void **state)
{
	static const u16 sizes[] = {2, 3, 48, 255, 256};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		bring_up(&f->guest, STAGE_FEATURES, FEATURE_VERSION_1 | RING_PACKED);
		queue_lay_out(&f->guest, ECHO, sizes[i], RING_PACKED);
		queue_place(&f->guest, ECHO);
		QUEUE(ECHO, ENABLE, 1);
		assert_int_equal(queue_get(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_SIZE), sizes[i]);
		status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
		for (unsigned round = 0; round < 300; round++)
			assert_echoes(f);
		bring_up(&f->guest, STAGE_LIVE, all_features());
		assert_echoes(f);
	}
	assert_true(machine_running(&f->guest.machine));
}

/* A size that comes too early (VT-7) is judged by the features that come after it. */
static void test_size_before_features(void **state)
{
	struct fixture *f = *state;

	for (unsigned packed = 0; packed < 2; packed++) {
		const u64 features = FEATURE_VERSION_1 | (packed ? RING_PACKED : 0);

		bring_up(&f->guest, STAGE_DRIVER, 0);
		QUEUE(ECHO, SIZE, 48);
		accept_features(&f->guest, features);
		status_add(&f->guest, VIRTIO_CONFIG_S_FEATURES_OK);
		QUEUE(ECHO, DESCLO, MiB(1));
		QUEUE(ECHO, AVAILLO, MiB(2));
		QUEUE(ECHO, USEDLO, MiB(3));
		QUEUE(ECHO, ENABLE, 1);
		assert_int_equal(queue_get(&f->guest, ECHO, VIRTIO_PCI_COMMON_Q_ENABLE), packed);
		if (packed)
			assert_string_equal(fake_guest_said(&f->guest), "");
		else
			assert_one_line(fake_guest_said(&f->guest), "VT-4");
	}
}

/* VT-14: a driver that takes its queues down waits for each, broken device or not. */
static void test_ring_reset_while_broken(void **state)
{
	struct fixture *f = *state;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	notify_absent(f);
	assert_one_line(fake_guest_said(&f->guest), "VT-10");
	QUEUE(ECHO, RESET, 1);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_RESET), 0);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	assert_int_equal(watched_count(f), 1);

	/* That is all: the device is as broken as before, and the queue stays down. */
	queue_place(&f->guest, ECHO);
	QUEUE(ECHO, ENABLE, 1);
	assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_Q_ENABLE), 0);
	assert_broken(f, VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* RUN-3 */
static void test_power_cycle(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 5; i++) {
		enable_msix(&f->guest, 3);
		bring_up(&f->guest, STAGE_LIVE, all_features());
		assert_echoes(f);
		common_set(&f->guest, VIRTIO_PCI_COMMON_MSIX, 0);
		pci_config_write(fake_guest_device(&f->guest),
				 find_capability(f, VIRTIO_PCI_CAP_PCI_CFG) + VIRTIO_PCI_CAP_LENGTH,
				 4, 4);
		virtio_power_on(&f->toy.virtio);
		assert_int_equal(watched_count(f), 0);
		fake_guest_power_on(&f->guest);
		assert_as_at_power_on(f);
		assert_structure(f, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 20);
		assert_int_equal(common_get(&f->guest, VIRTIO_PCI_COMMON_CFGGENERATION), 0);
	}
}

static void test_unplug_destroys(void **state)
{
	struct fixture *f = *state;

	virtio_power_on(&f->toy.virtio);
	fake_guest_destroy_board(&f->guest);
	virtio_unplug(&f->toy.virtio);
	assert_true(f->toy.destroyed);
	fake_guest_destroy(&f->guest);
	close(f->toy.source);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* PCI-3: notifications that the engine catches */

static void test_notifiers(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);
	const u64 here = device->bars[0].base, there = 0xe0000000;
	u16 head;

	bring_up(&f->guest, STAGE_QUEUES, all_features());
	assert_int_equal(watched_count(f), 0);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(watched_count(f), 2);
	assert_int_not_equal(watched(f, here + REGISTERS_NOTIFY), -1);
	assert_int_not_equal(watched(f, here + REGISTERS_NOTIFY + 4), -1);

	/* What the engine would signal is what wakes the queue. */
	add_echo(f, "engine", 16);
	fake_driver_publish(&f->guest.queues[ECHO]);
	eventfd_write(watched(f, here + REGISTERS_NOTIFY), 1);
	assert_int_equal(await_used(&f->guest, ECHO, &head), 6);

	pci_config_write(device, PCI_BASE_ADDRESS_0, 4, there);
	assert_int_equal(watched_count(f), 2);
	assert_int_equal(watched(f, here + REGISTERS_NOTIFY), -1);
	add_echo(f, "moved", 16);
	fake_driver_publish(&f->guest.queues[ECHO]);
	eventfd_write(watched(f, there + REGISTERS_NOTIFY), 1);
	assert_int_equal(await_used(&f->guest, ECHO, &head), 5);

	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(watched_count(f), 0);
	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	assert_int_equal(watched_count(f), 2);

	QUEUE(ECHO, RESET, 1);
	assert_int_equal(watched_count(f), 1);
	assert_int_equal(watched(f, there + REGISTERS_NOTIFY), -1);
	queue_lay_out(&f->guest, ECHO, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, ECHO);
	QUEUE(ECHO, ENABLE, 1);
	assert_int_equal(watched_count(f), 2);

	STATUS(0);
	assert_int_equal(watched_count(f), 0);
}

/* Enabled while the BAR is nowhere: through the window, or before it was placed. */
static void test_notifiers_wait_for_the_bar(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);

	bring_up(&f->guest, STAGE_LIVE, all_features());
	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	pci_config_write(device, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
	assert_int_equal(watched_count(f), 0);
	pci_config_write(device, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	assert_int_not_equal(watched(f, 0xd0000000 + REGISTERS_NOTIFY), -1);
	assert_echoes(f); /* what reaches the bus is heard as well */
}

/* PCI-4: the bus master bit */

static void set_bus_master(struct fixture *f, bool master)
{
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2,
			 PCI_COMMAND_MEMORY | (master ? PCI_COMMAND_MASTER : 0));
}

/* Once the write is done, memory is the guest's alone; what blocks is stopped for that. */
static void test_no_bus_master_no_memory(void **state)
{
	struct fixture *f = *state;
	struct fake_driver *driver = &f->guest.queues[ECHO];

	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	f->toy.hold = 1 << ECHO | 1 << TELL;
	notify(&f->guest, ECHO);
	notify(&f->guest, TELL);
	AWAIT(f->toy.holding == 2);
	f->toy.hold = 0;
	set_bus_master(f, false);
	assert_int_equal(f->toy.holding, 0);
	assert_int_equal(watched_count(f), 0);

	add_echo(f, "in vain", 16);
	fake_driver_publish(driver);
	notify(&f->guest, ECHO);
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
	STATUS(0); /* waits for the threads, whatever they were at */
	assert_int_equal(driver->used->idx, driver->taken);
	assert_int_equal(f->toy.echoed, 1);
	assert_string_equal(fake_guest_said(&f->guest), "");

	/* It is no part of a reset, and does not come back with one. */
	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_int_equal(watched_count(f), 0);
	set_bus_master(f, true);
	assert_echoes(f);
}

/* Nothing is forgotten meanwhile, neither what waits in the ring nor the place in it. */
static void test_bus_master_again(void **state)
{
	static const u64 kinds[] = {0, EVENT_IDX, RING_PACKED, RING_PACKED | EVENT_IDX};
	struct fixture *f = *state;
	struct fake_message message;
	u16 head;

	enable_msix(&f->guest, 3);
	for (unsigned kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
		bring_up(&f->guest, STAGE_LIVE, all_features() | kinds[kind]);
		for (unsigned i = 0; i < 20; i++) {
			fake_driver_enable_interrupts(&f->guest.queues[ECHO]);
			assert_echoes(f);
			AWAIT(fake_engine_take(&f->guest.engine, &message));
			set_bus_master(f, false);
			set_bus_master(f, false);
			fake_driver_enable_interrupts(&f->guest.queues[ECHO]);
			add_echo(f, "patience", 16);
			submit(&f->guest, ECHO);
			assert_false(fake_engine_take(&f->guest.engine, &message));
			set_bus_master(f, true);
			set_bus_master(f, true);
			assert_int_equal(await_used(&f->guest, ECHO, &head), 8);
			AWAIT(fake_engine_take(&f->guest.engine, &message));
			assert_int_equal(message.data, FAKE_MSI_DATA + ECHO + 1);
		}
	}
	assert_int_equal(watched_count(f), 2);
}

/* What is begun without the bit begins when it is set; and only what was begun. */
static void test_live_before_bus_master(void **state)
{
	struct fixture *f = *state;

	set_bus_master(f, false);
	bring_up(&f->guest, STAGE_QUEUES, all_features());
	set_bus_master(f, true);
	assert_int_equal(watched_count(f), 0);
	set_bus_master(f, false);
	status_add(&f->guest, VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(watched_count(f), 0);
	QUEUE(ECHO, RESET, 1);
	set_bus_master(f, true);
	assert_int_equal(watched_count(f), 1);
	set_bus_master(f, false);
	queue_lay_out(&f->guest, ECHO, 16, FEATURE_VERSION_1);
	queue_place(&f->guest, ECHO);
	QUEUE(ECHO, ENABLE, 1);
	assert_int_equal(watched_count(f), 0);
	set_bus_master(f, true);
	assert_int_equal(watched_count(f), 2);
	assert_echoes(f);
}

/* VT-12: the window in configuration space */

static void aim(struct fixture *f, u32 offset, u32 len)
{
	struct pci_device *device = fake_guest_device(&f->guest);
	const unsigned at = find_capability(f, VIRTIO_PCI_CAP_PCI_CFG);

	pci_config_write(device, at + VIRTIO_PCI_CAP_BAR, 1, 0);
	pci_config_write(device, at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
	pci_config_write(device, at + VIRTIO_PCI_CAP_LENGTH, 4, len);
}

static u32 window_get(struct fixture *f, u32 offset, u32 len)
{
	aim(f, offset, len);
	return pci_config_read(fake_guest_device(&f->guest),
			       find_capability(f, VIRTIO_PCI_CAP_PCI_CFG) + 16, len);
}

static void window_put(struct fixture *f, u32 offset, u32 len, u32 value)
{
	aim(f, offset, len);
	pci_config_write(fake_guest_device(&f->guest),
			 find_capability(f, VIRTIO_PCI_CAP_PCI_CFG) + 16, len, value);
}

/* PCI-6: everything can be done through it, even where the BARs do not decode. */
static void test_window(void **state)
{
	struct fixture *f = *state;
	u16 head;

	bring_up(&f->guest, STAGE_LIVE, all_features());
	pci_config_write(fake_guest_device(&f->guest), PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	assert_int_equal(window_get(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_STATUS, 1),
			 COMMON_LIVE);
	window_put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(window_get(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_Q_SELECT, 2), 1);
	window_put(f, REGISTERS_DEVICE + 4, 4, 0xcafe);
	assert_int_equal(window_get(f, REGISTERS_DEVICE + 4, 4), 0xcafe);
	assert_int_equal(window_get(f, REGISTERS_ISR, 1), 0);

	add_echo(f, "window", 16);
	fake_driver_publish(&f->guest.queues[ECHO]);
	window_put(f, REGISTERS_NOTIFY + ECHO * 4, 2, ECHO);
	assert_int_equal(await_used(&f->guest, ECHO, &head), 6);
	AWAIT(pci_interrupt_status(f));
	assert_int_equal(window_get(f, REGISTERS_ISR, 1), 1);
	assert_false(pci_interrupt_status(f));

	window_put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_int_equal(window_get(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_STATUS, 1), 0);
	assert_true(machine_running(&f->guest.machine));
}

/* Its fields are written in any width, and read back. */
static void test_window_fields(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);
	const unsigned at = find_capability(f, VIRTIO_PCI_CAP_PCI_CFG);

	pci_config_write(device, at + VIRTIO_PCI_CAP_BAR, 4, 5);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_BAR, 4), 5);
	pci_config_write(device, at + VIRTIO_PCI_CAP_BAR, 1, 0);
	pci_config_write(device, at + VIRTIO_PCI_CAP_OFFSET, 4, 0x11223344);
	pci_config_write(device, at + VIRTIO_PCI_CAP_OFFSET + 2, 2, 0xaabb);
	pci_config_write(device, at + VIRTIO_PCI_CAP_OFFSET + 1, 1, 0xcc);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_OFFSET, 4), 0xaabbcc44);
	assert_int_equal(pci_config_read(device, at + VIRTIO_PCI_CAP_OFFSET + 1, 1), 0xcc);
	assert_int_equal(status_get(&f->guest), 0);
}

/* A tool that reads all of configuration space, and one that writes where nothing is. */
static void test_window_does_no_harm(void **state)
{
	struct fixture *f = *state;
	struct pci_device *device = fake_guest_device(&f->guest);
	static const struct {
		u8 bar;
		u32 offset, len;
	} aims[] = {
		{0, 0, 0},
		{0, VIRTIO_PCI_COMMON_STATUS, 3},
		{0, VIRTIO_PCI_COMMON_STATUS, 8},
		{0, VIRTIO_PCI_COMMON_GF + 2, 4},
		{0, 60, 1},
		{0, REGISTERS_ISR, 2},
		{0, REGISTERS_DEVICE + TOY_CONFIG, 1},
		{0, REGISTERS_NOTIFY + 8, 2},
		{0, 0xfffffffc, 4},
		{0, 0xffffffff, 1},
		{1, 0, 4},
		{6, 0, 4},
		{255, 0, 4},
	};

	bring_up(&f->guest, STAGE_LIVE, all_features());
	for (unsigned i = 0; i < 256; i += 4)
		pci_config_read(device, i, 4);
	for (unsigned i = 0; i < ARRAY_SIZE(aims); i++) {
		const unsigned at = find_capability(f, VIRTIO_PCI_CAP_PCI_CFG);

		aim(f, aims[i].offset, aims[i].len);
		pci_config_write(device, at + VIRTIO_PCI_CAP_BAR, 1, aims[i].bar);
		assert_int_equal(pci_config_read(device, at + 16, 4), 0);
		pci_config_write(device, at + 16, 4, 0xffffffff);
	}
	assert_int_equal(status_get(&f->guest), COMMON_LIVE);
	assert_string_equal(fake_guest_said(&f->guest), "");
	assert_echoes(f);
}

/* The rules hold inside it as well. */
static void test_window_breach(void **state)
{
	struct fixture *f = *state;

	window_put(f, REGISTERS_COMMON + VIRTIO_PCI_COMMON_STATUS, 1, 0x10);
	assert_one_line(fake_guest_said(&f->guest), "VT-1");
}

/* Several vCPUs at once: nothing is asserted but that it ends, and works afterwards. */

struct storm {
	struct fixture *f;
	_Atomic bool over;
};

static void *storm_of_kicks(void *opaque)
{
	struct storm *storm = opaque;

	while (!storm->over) {
		/* Late at times, which is a violation, and part of the weather. */
		if (status_get(&storm->f->guest) == COMMON_LIVE)
			notify(&storm->f->guest, ECHO);
		isr_get(storm->f);
		get(storm->f, REGISTERS_DEVICE, 4);
	}
	return NULL;
}

static void *storm_of_moves(void *opaque)
{
	struct storm *storm = opaque;
	struct pci_device *device = fake_guest_device(&storm->f->guest);

	while (!storm->over) {
		pci_config_write(device, PCI_BASE_ADDRESS_0, 4, 0xe0000000);
		pci_config_write(device, PCI_BASE_ADDRESS_0, 4, 0xd0000000);
		change(storm->f, 1);
	}
	return NULL;
}

static void *storm_of_masters(void *opaque)
{
	struct storm *storm = opaque;

	while (!storm->over) {
		set_bus_master(storm->f, false);
		set_bus_master(storm->f, true);
	}
	return NULL;
}

static void test_storm(void **state)
{
	struct fixture *f = *state;
	struct storm storm = {.f = f};
	pthread_t threads[4];

	pthread_create(&threads[0], NULL, storm_of_kicks, &storm);
	pthread_create(&threads[1], NULL, storm_of_moves, &storm);
	pthread_create(&threads[2], NULL, storm_of_masters, &storm);
	pthread_create(&threads[3], NULL, storm_of_masters, &storm);
	for (unsigned i = 0; i < 300; i++) {
		/* Through the window, which does not move. */
		window_put(f, VIRTIO_PCI_COMMON_STATUS, 1, 0);
		window_put(f, VIRTIO_PCI_COMMON_STATUS, 1, 1);
		window_put(f, VIRTIO_PCI_COMMON_STATUS, 1, 3);
		window_put(f, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
		window_put(f, VIRTIO_PCI_COMMON_GF, 4, FEATURE_VERSION_1 >> 32);
		window_put(f, VIRTIO_PCI_COMMON_STATUS, 1, 11);
		window_put(f, VIRTIO_PCI_COMMON_Q_SELECT, 2, ECHO);
		window_put(f, VIRTIO_PCI_COMMON_Q_DESCLO, 4, MiB(1));
		window_put(f, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, MiB(2));
		window_put(f, VIRTIO_PCI_COMMON_Q_USEDLO, 4, MiB(3));
		window_put(f, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		window_put(f, VIRTIO_PCI_COMMON_STATUS, 1, 15);
	}
	storm.over = true;
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);

	bring_up(&f->guest, STAGE_LIVE, all_features());
	assert_echoes(f);
	STATUS(0);
	assert_int_equal(watched_count(f), 0);
	assert_false(pci_interrupt_status(f));
	fake_guest_said(&f->guest);
}

#define TEST(name)	    cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_STRICT(name)   cmocka_unit_test_setup_teardown(name, setup_strict, teardown)
#define TEST_WATCHING(name) cmocka_unit_test_setup_teardown(name, setup_watching, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_capabilities),
		cmocka_unit_test(test_no_configuration_no_capability),
		TEST(test_slot_taken),
		TEST(test_power_on),
		TEST(test_absent_queue_reads_as_nothing),
		TEST(test_features),
		TEST(test_refused_features),
		cmocka_unit_test(test_refused_features_strict),
		TEST_STRICT(test_settled_features_reach_the_device),
		TEST_STRICT(test_address_halves),
		TEST(test_vectors),
		TEST_STRICT(test_intx),
		TEST_STRICT(test_event_idx),
		TEST_STRICT(test_msix),
		TEST(test_no_vector_no_interrupt),
		TEST(test_one_interrupt_a_batch),
		TEST_STRICT(test_no_kick_is_lost),
		TEST_STRICT(test_32_bit_notification),
		TEST_STRICT(test_configuration),
		TEST(test_generation),
		TEST(test_configuration_interrupt),
		TEST(test_lenient),
		TEST(test_all_at_once_with_bad_features),
		TEST_STRICT(test_harmless),
		TEST(test_failed),
		TEST_STRICT(test_failed_strict),
		TEST(test_failed_after_violation),
		TEST(test_flood),
		TEST(test_flood_under_verbose),
		TEST(test_queue_breach),
		TEST_STRICT(test_queue_breach_strict),
		TEST(test_avail_flags),
		TEST(test_reset),
		TEST(test_reset_ends_what_blocks),
		TEST_STRICT(test_ring_reset),
		TEST_STRICT(test_ring_reset_packed),
		TEST_STRICT(test_packed_sizes),
		TEST(test_size_before_features),
		TEST_WATCHING(test_ring_reset_while_broken),
		TEST_WATCHING(test_power_cycle),
		cmocka_unit_test_setup(test_unplug_destroys, setup),
		TEST_WATCHING(test_notifiers),
		TEST_WATCHING(test_notifiers_wait_for_the_bar),
		TEST_WATCHING(test_no_bus_master_no_memory),
		TEST_WATCHING(test_bus_master_again),
		TEST_WATCHING(test_live_before_bus_master),
		TEST_STRICT(test_window),
		TEST(test_window_fields),
		TEST(test_window_does_no_harm),
		TEST(test_window_breach),
		TEST_WATCHING(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) + run_breaches();
}
