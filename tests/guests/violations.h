/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every rule that a virtio driver can break, and how the guest "violate" breaks it.
 *
 * One line each, for an X macro; the guest and the table of system tests include
 * the same lines, so they cannot disagree. A line says
 *
 *   VIOLATION(part, rule, number,	the name: VT-6.2 is the second way to break rule VT-6
 *	       kind,			BREAKS, LENIENT or REFUSED: targets.h
 *	       devices,			EACH that it can be done to, or which
 *	       stage, features,		how far the driver came, what it negotiated beside VERSION_1
 *	       what,			in words
 *	       action)			C, with `v` the device and `target` what it is
 *
 * With --strict the line on stderr names the rule, "VT-6". Those whose stage is LIVE_INPUT break
 * the rule in a queue that may be looked at only when there is something to receive: give a console
 * --console=virtio and a byte or more on standard input, and a network a twin. (VT-13 and VQ-7 are
 * not here: they bind the device, and only the guest "queue" can see them kept. VQ-8 to VQ-10 are
 * the device's as well.)
 *
 * No include guard: it is to be included as often as it is expanded.
 */
/* clang-format off */

/* Device status */
VIOLATION(VT, 1, 1, BREAKS, EACH, DRIVER, 0, "a status bit is taken away",
	  set_status(v, VIRTIO_CONFIG_S_DRIVER))
VIOLATION(VT, 1, 2, BREAKS, EACH, DRIVER, 0, "an unknown status bit is set",
	  set_status(v, ACKNOWLEDGED_AND_DRIVER | STATUS_UNKNOWN_BIT))
VIOLATION(VT, 1, 3, BREAKS, EACH, RESET, 0, "DRIVER without ACKNOWLEDGE",
	  set_status(v, VIRTIO_CONFIG_S_DRIVER))
VIOLATION(VT, 1, 4, BREAKS, EACH, ACKNOWLEDGED, 0, "FEATURES_OK without DRIVER",
	  set_status(v, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_FEATURES_OK))
VIOLATION(VT, 1, 5, BREAKS, EACH, DRIVER, 0, "DRIVER_OK without FEATURES_OK",
	  set_status(v, ACKNOWLEDGED_AND_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK))
VIOLATION(VT, 1, 6, LENIENT, EACH, RESET, 0, "two status bits at once",
	  (set_status(v, ACKNOWLEDGED_AND_DRIVER), expect_status(v, ACKNOWLEDGED_AND_DRIVER)))
VIOLATION(VT, 1, 7, BREAKS, EACH, LIVE, 0, "DRIVER_OK is taken away",
	  set_status(v, virtio_status(v) & ~VIRTIO_CONFIG_S_DRIVER_OK))
VIOLATION(VT, 1, 8, BREAKS, EACH, AGREED, 0, "FEATURES_OK is taken away",
	  set_status(v, ACKNOWLEDGED_AND_DRIVER))

/* Reading FEATURES_OK back */
VIOLATION(VT, 2, 1, LENIENT, EACH, DRIVER, 0, "a queue is set up, but FEATURES_OK was not read back",
	  (agree_blindly(v), virtio_set_ring(v, target->queue, QUEUE_SIZE)))
VIOLATION(VT, 2, 2, LENIENT, EACH, DRIVER, 0, "DRIVER_OK, but FEATURES_OK was not read back",
	  (agree_blindly(v), set_status(v, STATUS_LIVE), expect_status(v, STATUS_LIVE)))

/* Features */
VIOLATION(VT, 3, 1, LENIENT, EACH, ACKNOWLEDGED, 0, "device_feature is read before DRIVER",
	  check(virtio_offered(v), "features can be read"))
VIOLATION(VT, 3, 2, BREAKS, EACH, ACKNOWLEDGED, 0, "driver_feature is written before DRIVER",
	  virtio_accept(v, FEATURE(VIRTIO_F_VERSION_1)))
VIOLATION(VT, 3, 3, BREAKS, EACH, AGREED, 0, "driver_feature is written after FEATURES_OK",
	  virtio_accept(v, FEATURE(VIRTIO_F_VERSION_1)))
VIOLATION(VT, 3, 4, REFUSED, EACH, DRIVER, 0, "a feature is accepted that was not offered",
	  agree_to(v, FEATURE(VIRTIO_F_VERSION_1) | not_offered(v)))
VIOLATION(VT, 3, 5, REFUSED, EACH, DRIVER, 0, "VERSION_1 is not accepted",
	  agree_to(v, FEATURE(VIRTIO_RING_F_INDIRECT_DESC)))
VIOLATION(VT, 3, 6, REFUSED, EACH, DRIVER, 0, "no feature is accepted",
	  agree_to(v, 0))

VIOLATION(VT, 3, 7, REFUSED, NET, DRIVER, 0, "segmentation is accepted without checksums",
	  agree_to(v, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_NET_F_HOST_TSO4)))
VIOLATION(VT, 3, 8, REFUSED, NET, DRIVER, 0, "ECN is accepted without segmentation",
	  agree_to(v, FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_ECN)))

/* Queue size */
VIOLATION(VT, 4, 1, BREAKS, EACH, AGREED, 0, "queue_size 0",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, 0))
VIOLATION(VT, 4, 2, BREAKS, EACH | ONLY_SPLIT, AGREED, 0, "queue_size 12",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, 12))
VIOLATION(VT, 4, 3, BREAKS, EACH, AGREED, 0, "queue_size above what was offered",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, 512))
VIOLATION(VT, 4, 4, BREAKS, EACH, ENABLED, 0, "queue_size is changed once enabled",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE / 2))
VIOLATION(VT, 4, 5, BREAKS, EACH, LIVE, 0, "queue_size is changed on a live queue",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE / 2))

/* Queues that are not there */
VIOLATION(VT, 5, 1, BREAKS, EACH, AGREED, 0, "queue_size of an absent queue",
	  (expect_no_queue(v), queue_write16(v, absent(v), VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE)))
VIOLATION(VT, 5, 2, BREAKS, EACH, AGREED, 0, "queue_enable of an absent queue",
	  queue_write16(v, absent(v), VIRTIO_PCI_COMMON_Q_ENABLE, 1))
VIOLATION(VT, 5, 3, BREAKS, EACH, AGREED, 0, "queue_desc of an absent queue",
	  queue_write32(v, absent(v), VIRTIO_PCI_COMMON_Q_DESCLO, 0x100000))
VIOLATION(VT, 5, 4, BREAKS, EACH, LIVE, 0, "queue_msix_vector of the last queue number there can be",
	  queue_write16(v, 0xffff, VIRTIO_PCI_COMMON_Q_MSIX, 0))

/* Enabling a queue */
VIOLATION(VT, 6, 1, BREAKS, EACH, SET_UP, 0, "queue_enable 0",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_ENABLE, 0))
VIOLATION(VT, 6, 2, BREAKS, EACH, SET_UP, 0, "queue_enable 2",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_ENABLE, 2))
VIOLATION(VT, 6, 3, BREAKS, EACH, DRIVER, 0, "a queue is enabled before FEATURES_OK",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_ENABLE, 1))
VIOLATION(VT, 6, 4, LENIENT, EACH, SET_UP, 0, "a queue is enabled after DRIVER_OK",
	  (enable_others(v), set_status(v, STATUS_LIVE),
	   virtio_enable_ring(v, target->queue), expect_works(v)))
VIOLATION(VT, 6, 5, BREAKS, EACH, AGREED, 0, "a queue is enabled that has no addresses",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_ENABLE, 1))
VIOLATION(VT, 6, 6, BREAKS, EACH, SET_UP, 0, "descriptors are not aligned to 16",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_DESCLO, (u64)v->rings[target->queue].desc + 8))
VIOLATION(VT, 6, 7, BREAKS, EACH | ONLY_SPLIT, SET_UP, 0, "the available ring is not aligned to 2",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_AVAILLO, (u64)v->rings[target->queue].avail + 1))
VIOLATION(VT, 6, 8, BREAKS, EACH | ONLY_SPLIT, SET_UP, 0, "the used ring is not aligned to 4",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_USEDLO, (u64)v->rings[target->queue].used + 2))
VIOLATION(VT, 6, 9, BREAKS, EACH, SET_UP, 0, "descriptors are where there is no RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_DESCLO, LAYOUT_PCI_WINDOW))
VIOLATION(VT, 6, 10, BREAKS, EACH, SET_UP, 0, "all but the last entry of the table is RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_DESCLO, end_of_ram - (QUEUE_SIZE - 1) * sizeof(struct vring_desc)))
VIOLATION(VT, 6, 11, BREAKS, EACH | ONLY_SPLIT, SET_UP, 0, "all but the event word of the available ring is RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_AVAILLO, end_of_ram - AVAIL_WITHOUT_EVENT))
VIOLATION(VT, 6, 12, BREAKS, EACH | ONLY_SPLIT, SET_UP, 0, "all but the event word of the used ring is RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_USEDLO, end_of_ram - USED_WITHOUT_EVENT))
VIOLATION(VT, 6, 13, BREAKS, EACH, SET_UP, 0, "the table of descriptors wraps past the end of all addresses",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_DESCLO, -16ull))
VIOLATION(VT, 6, 14, BREAKS, EACH, SET_UP, 0, "the used ring is above 4 GiB, where a short pointer would not see it",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_USEDLO, 1ull << 52 | (u64)v->rings[target->queue].used))
VIOLATION(VT, 6, 15, LENIENT, EACH | ONLY_SPLIT, SET_UP, 0, "used.flags is not 0 when the queue is enabled",
	  (v->rings[target->queue].used->flags = 1, virtio_enable_ring(v, target->queue),
	   set_status(v, STATUS_LIVE), expect_works(v)))

VIOLATION(VT, 6, 16, BREAKS, EACH | ONLY_PACKED, SET_UP, 0, "the driver's event structure is not aligned to 4",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_AVAILLO, (u64)v->rings[target->queue].driver_event + 2))
VIOLATION(VT, 6, 17, BREAKS, EACH | ONLY_PACKED, SET_UP, 0, "the device's event structure is not aligned to 4",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_USEDLO, (u64)v->rings[target->queue].device_event + 2))
VIOLATION(VT, 6, 18, BREAKS, EACH | ONLY_PACKED, SET_UP, 0, "the driver's event structure is just past the end of RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_AVAILLO, end_of_ram))
VIOLATION(VT, 6, 19, BREAKS, EACH | ONLY_PACKED, SET_UP, 0, "the device's event structure is just past the end of RAM",
	  enable_at(v, VIRTIO_PCI_COMMON_Q_USEDLO, end_of_ram))

/* What a queue in use does not take */
VIOLATION(VT, 7, 1, BREAKS, EACH, LIVE, 0, "queue_desc of a live queue",
	  queue_write32(v, target->queue, VIRTIO_PCI_COMMON_Q_DESCLO, 0x100000))
VIOLATION(VT, 7, 2, BREAKS, EACH, LIVE, 0, "queue_driver of a live queue",
	  queue_write32(v, target->queue, VIRTIO_PCI_COMMON_Q_AVAILLO, 0x100000))
VIOLATION(VT, 7, 3, BREAKS, EACH, LIVE, 0, "queue_device (high) of a live queue",
	  queue_write32(v, target->queue, VIRTIO_PCI_COMMON_Q_USEDHI, 0))
VIOLATION(VT, 7, 4, LENIENT, EACH, DRIVER, 0, "queue_desc before FEATURES_OK",
	  (queue_write32(v, target->queue, VIRTIO_PCI_COMMON_Q_DESCLO, 0x100000),
	   check_equal(virtio_read32(v, VIRTIO_PCI_COMMON_Q_DESCLO), 0x100000, "queue_desc reads back")))
VIOLATION(VT, 7, 5, LENIENT, EACH, DRIVER, 0, "queue_size before FEATURES_OK",
	  (queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE),
	   check_equal(virtio_read16(v, VIRTIO_PCI_COMMON_Q_SIZE), QUEUE_SIZE, "queue_size reads back")))

/* What is read-only */
VIOLATION(VT, 8, 1, BREAKS, EACH, DRIVER, 0, "device_feature is written",
	  virtio_write32(v, VIRTIO_PCI_COMMON_DF, 0))
VIOLATION(VT, 8, 2, BREAKS, EACH, LIVE, 0, "num_queues is written",
	  virtio_write16(v, VIRTIO_PCI_COMMON_NUMQ, 2))
VIOLATION(VT, 8, 3, BREAKS, EACH, LIVE, 0, "config_generation is written",
	  virtio_write8(v, VIRTIO_PCI_COMMON_CFGGENERATION, 0))
VIOLATION(VT, 8, 4, BREAKS, EACH, LIVE, 0, "queue_notify_off is written",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_NOFF, 1))
VIOLATION(VT, 8, 5, BREAKS, EACH, LIVE, 0, "isr is written",
	  write8(v->isr.address, 0))
VIOLATION(VT, 8, 6, BREAKS, EACH, LIVE, 0, "the offset in a capability is written",
	  pci_write32(v->slot, v->common.capability + VIRTIO_PCI_CAP_OFFSET, 0x2000))
VIOLATION(VT, 8, 7, BREAKS, EACH, LIVE, 0, "the multiplier of notifications is written",
	  pci_write32(v->slot, v->notify.capability + VIRTIO_PCI_NOTIFY_CAP_MULT, 8))
VIOLATION(VT, 8, 8, BREAKS, EACH, LIVE, 0, "padding of the PCI_CFG capability is written",
	  pci_write8(v->slot, v->window + VIRTIO_PCI_CAP_BAR + 2, 1))
VIOLATION(VT, 8, 9, LENIENT, EACH, LIVE, 0, "queue_msix_vector that the table does not have",
	  (queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_MSIX, 77), expect_no_vector(v, VIRTIO_PCI_COMMON_Q_MSIX)))
VIOLATION(VT, 8, 10, LENIENT, EACH, LIVE, 0, "config_msix_vector that the table does not have",
	  (virtio_write16(v, VIRTIO_PCI_COMMON_MSIX, 77), expect_no_vector(v, VIRTIO_PCI_COMMON_MSIX)))

/* Widths */
VIOLATION(VT, 9, 1, BREAKS, EACH, LIVE, 0, "device_status is read with 16 bits",
	  virtio_read16(v, VIRTIO_PCI_COMMON_STATUS))
VIOLATION(VT, 9, 2, BREAKS, EACH, LIVE, 0, "queue_select is written with 8 bits",
	  virtio_write8(v, VIRTIO_PCI_COMMON_Q_SELECT, 0))
VIOLATION(VT, 9, 3, BREAKS, EACH, AGREED, 0, "queue_size is written with 32 bits",
	  virtio_write32(v, VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE))
VIOLATION(VT, 9, 4, BREAKS, EACH, AGREED, 0, "queue_desc is written with 64 bits",
	  virtio_write64(v, VIRTIO_PCI_COMMON_Q_DESCLO, 0x100000))
VIOLATION(VT, 9, 5, BREAKS, EACH, LIVE, 0, "num_queues is read at its second byte",
	  virtio_read8(v, VIRTIO_PCI_COMMON_NUMQ + 1))
VIOLATION(VT, 9, 6, BREAKS, EACH, LIVE, 0, "isr is read with 32 bits",
	  read32(v->isr.address))
VIOLATION(VT, 9, 7, BREAKS, CONFIGURED, LIVE, 0, "device configuration is read where it is not aligned",
	  read16(v->config.address + 1))
VIOLATION(VT, 9, 8, BREAKS, CONFIGURED, LIVE, 0, "device configuration is read past its end",
	  read32(v->config.address + v->config.length))
VIOLATION(VT, 9, 9, BREAKS, CONFIGURED, LIVE, 0, "device configuration is read across its end",
	  read64(v->config.address + (v->config.length & ~7u)))
VIOLATION(VT, 9, 10, BREAKS, EACH, LIVE, 0, "common configuration is read past its end",
	  virtio_read32(v, v->common.length))
VIOLATION(VT, 9, 11, BREAKS, EACH, LIVE, 0, "something past the end of isr is written",
	  write8(v->isr.address + v->isr.length, 1))
VIOLATION(VT, 9, 12, BREAKS, EACH, LIVE, 0, "through the window, a field is read with the wrong width",
	  window_read(v, v->common.bar, v->common.offset + VIRTIO_PCI_COMMON_STATUS, 2))

/* Notifications */
VIOLATION(VT, 10, 1, BREAKS, EACH, ENABLED, 0, "a notification before DRIVER_OK",
	  virtio_notify(v, target->queue))
VIOLATION(VT, 10, 2, BREAKS, EACH, LIVE, 0, "a notification of an absent queue",
	  write16(v->notify.address + absent(v) * v->notify_multiplier, absent(v)))
VIOLATION(VT, 10, 3, BREAKS, EACH, SET_UP, 0, "a notification of a queue that is not enabled",
	  (enable_others(v), set_status(v, STATUS_LIVE), virtio_notify(v, target->queue)))
VIOLATION(VT, 10, 4, BREAKS, EACH, LIVE, 0, "a notification of 8 bits",
	  write8(virtio_notify_address(v, target->queue), target->queue))
VIOLATION(VT, 10, 5, BREAKS, EACH, LIVE, FEATURE(VIRTIO_F_RING_RESET), "a notification of a queue that was reset",
	  (queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_RESET, 1), virtio_notify(v, target->queue)))

/* Device configuration */
VIOLATION(VT, 11, 1, BREAKS, CONSOLE, LIVE, 0, "the number of columns is written",
	  write16(v->config.address + CONSOLE_COLUMNS, 80))
VIOLATION(VT, 11, 2, BREAKS, CONSOLE, LIVE, 0, "the number of ports is written",
	  write32(v->config.address + CONSOLE_PORTS, 2))

VIOLATION(VT, 11, 3, BREAKS, BLOCK, LIVE, 0, "the capacity is written",
	  write32(v->config.address, 0))
VIOLATION(VT, 11, 4, BREAKS, NET, LIVE, 0, "the MAC is written",
	  write8(v->config.address, 2))

/* The window in configuration space */
VIOLATION(VT, 12, 1, LENIENT, EACH, LIVE, 0, "the window looks into BAR 1",
	  expect_blind(v, 1, v->common.offset, 4))
VIOLATION(VT, 12, 2, LENIENT, EACH, LIVE, 0, "the window is 3 bytes wide",
	  expect_blind(v, v->common.bar, v->common.offset, 3))
VIOLATION(VT, 12, 3, LENIENT, EACH, LIVE, 0, "the window is 8 bytes wide",
	  expect_blind(v, v->common.bar, v->common.offset, 8))
VIOLATION(VT, 12, 4, LENIENT, EACH, LIVE, 0, "the window has no width, as before anybody set it",
	  expect_blind(v, v->common.bar, v->common.offset, 0))
VIOLATION(VT, 12, 5, LENIENT, EACH, LIVE, 0, "the window is not aligned",
	  expect_blind(v, v->common.bar, v->common.offset + VIRTIO_PCI_COMMON_NUMQ - 1, 2))
VIOLATION(VT, 12, 6, LENIENT, EACH, LIVE, 0, "the window looks past the end of the common configuration",
	  expect_blind(v, v->common.bar, v->common.offset + ((v->common.length + 3) & ~3u), 4))
VIOLATION(VT, 12, 7, LENIENT, EACH, LIVE, 0, "the window looks past the end of everything",
	  expect_blind(v, v->common.bar, -4u, 4))

/* Ring reset */
VIOLATION(VT, 14, 1, BREAKS, EACH, LIVE, FEATURE(VIRTIO_F_RING_RESET), "queue_reset 0",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_RESET, 0))
VIOLATION(VT, 14, 2, BREAKS, EACH, LIVE, FEATURE(VIRTIO_F_RING_RESET), "queue_reset 2",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_RESET, 2))
VIOLATION(VT, 14, 3, BREAKS, EACH, LIVE, 0, "queue_reset without RING_RESET",
	  queue_write16(v, target->queue, VIRTIO_PCI_COMMON_Q_RESET, 1))

/* The available ring */
VIOLATION(VQ, 1, 1, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "the available index runs ahead by one more than the queue size",
	  run_ahead(v, QUEUE_SIZE + 1))
VIOLATION(VQ, 1, 2, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "the available index runs backwards",
	  run_ahead(v, 0xffff))
VIOLATION(VQ, 1, 3, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "a head that is the queue size",
	  offer(v, QUEUE_SIZE))
VIOLATION(VQ, 1, 4, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "a head that is 65535",
	  offer(v, 0xffff))

VIOLATION(VQ, 1, 5, BREAKS, EACH | ONLY_PACKED, LIVE, 0, "a buffer id that is the queue size",
	  (describe(v, QUEUE_SIZE, 1, 0, 0), offer(v, QUEUE_SIZE)))
VIOLATION(VQ, 1, 6, BREAKS, EACH | ONLY_PACKED, LIVE, 0, "a buffer id that is 65535",
	  put(v, 0, 0xffff))
VIOLATION(VQ, 1, 7, BREAKS, EACH | ONLY_PACKED, LIVE, 0, "a chain that goes on where nothing was made available",
	  put(v, VRING_DESC_F_NEXT, 0))

/* Chains */
VIOLATION(VQ, 2, 1, BREAKS, EACH, LIVE, 0, "a descriptor that is its own next",
	  (describe(v, 0, 1, VRING_DESC_F_NEXT, 0), offer(v, 0)))
VIOLATION(VQ, 2, 2, BREAKS, EACH, LIVE, 0, "a loop of two",
	  (describe(v, 0, 1, VRING_DESC_F_NEXT, 1), describe(v, 1, 1, VRING_DESC_F_NEXT, 0), offer(v, 0)))
VIOLATION(VQ, 2, 3, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "next is outside the table",
	  (describe(v, 0, 1, VRING_DESC_F_NEXT, QUEUE_SIZE), offer(v, 0)))
VIOLATION(VQ, 2, 4, BREAKS, EACH, LIVE_LARGE, 0, "a chain of more than 2^32 bytes",
	  offer_huge(v))
VIOLATION(VQ, 2, 5, BREAKS, EACH | ONLY_SPLIT, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
	  "a chain longer than the queue size, half of it indirect",
	  (describe(v, 0, 1, VRING_DESC_F_NEXT, 1), describe_indirect(v, 1, QUEUE_SIZE, 0), offer(v, 0)))
VIOLATION(VQ, 2, 6, BREAKS, EACH | ONLY_SPLIT, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "next is outside the indirect table",
	  (describe_indirect(v, 0, 2, 0), indirect_table.split[0].next = 2, offer(v, 0)))

/* Directions */
VIOLATION(VQ, 3, 1, BREAKS, CONSOLE | NET, LIVE, 0, "a writable buffer in the transmit queue",
	  (describe_as(v, 0, VRING_DESC_F_WRITE, 0), offer(v, 0)))
VIOLATION(VQ, 3, 2, BREAKS, EACH, LIVE, 0, "a readable buffer after a writable one",
	  (describe_as(v, 0, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1), describe_as(v, 1, 0, 0), offer(v, 0)))
VIOLATION(VQ, 3, 3, BREAKS, CONSOLE | NET | RNG, LIVE_INPUT, 0, "a readable buffer in a queue for input",
	  (ring_describe(&v->rings[target->input_queue], 0, &payload, 1, 0, 0), ring_offer(&v->rings[target->input_queue], 0),
	   virtio_notify(v, target->input_queue), provoke()))

/* Indirect descriptors */
VIOLATION(VQ, 4, 1, BREAKS, EACH, LIVE, 0, "indirect, which was not negotiated",
	  (describe_indirect(v, 0, 1, 0), offer(v, 0)))
VIOLATION(VQ, 4, 2, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "indirect inside indirect",
	  (describe_indirect(v, 0, 1, 0), describe_entry(v, 0, &payload, VRING_DESC_F_INDIRECT, 0), offer(v, 0)))
VIOLATION(VQ, 4, 3, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "indirect together with NEXT",
	  (describe_indirect(v, 0, 1, VRING_DESC_F_NEXT), v->rings[target->queue].desc[0].next = 1,
	   describe(v, 1, 1, 0, 0), offer(v, 0)))
VIOLATION(VQ, 4, 4, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "an indirect table of 24 bytes",
	  (describe_indirect(v, 0, 2, 0), v->rings[target->queue].desc[0].len = 24, offer(v, 0)))
VIOLATION(VQ, 4, 5, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "an empty indirect table",
	  (describe_indirect(v, 0, 0, 0), offer(v, 0)))
VIOLATION(VQ, 4, 6, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
	  "an indirect table of more entries than the queue size",
	  (describe_indirect(v, 0, QUEUE_SIZE + 1, 0), offer(v, 0)))

VIOLATION(VQ, 4, 7, BREAKS, EACH | ONLY_PACKED, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC),
	  "indirect in a chain of ordinary descriptors",
	  (describe(v, 0, 1, VRING_DESC_F_NEXT, 1), describe_indirect(v, 1, 2, 0), offer(v, 0)))

/* Addresses */
VIOLATION(VQ, 5, 1, BREAKS, EACH, LIVE, 0, "a buffer where there is no RAM",
	  (describe_at(v, LAYOUT_PCI_WINDOW, 1), offer(v, 0)))
VIOLATION(VQ, 5, 2, BREAKS, EACH, LIVE, 0, "a buffer whose last byte is past the end of RAM",
	  (describe_at(v, end_of_ram - 15, 16), offer(v, 0)))
VIOLATION(VQ, 5, 3, BREAKS, EACH, LIVE, 0, "a buffer that wraps past the end of all addresses",
	  (describe_at(v, -8ull, 16), offer(v, 0)))
VIOLATION(VQ, 5, 4, BREAKS, EACH, LIVE, 0, "a buffer of 4 GiB less one byte",
	  (describe(v, 0, 0xffffffff, 0, 0), offer(v, 0)))
VIOLATION(VQ, 5, 5, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "an indirect table where there is no RAM",
	  (describe_indirect(v, 0, 1, 0), v->rings[target->queue].desc[0].addr = LAYOUT_PCI_WINDOW, offer(v, 0)))
VIOLATION(VQ, 5, 6, BREAKS, EACH, LIVE, FEATURE(VIRTIO_RING_F_INDIRECT_DESC), "a buffer of an indirect table where there is no RAM",
	  (describe_indirect(v, 0, 1, 0), describe_entry(v, 0, (void *)(u64)LAYOUT_LAPIC, 0, 0), offer(v, 0)))

/* Interrupt suppression */
VIOLATION(VQ, 6, 1, BREAKS, EACH | ONLY_SPLIT, LIVE, 0, "avail.flags 2",
	  (v->rings[target->queue].avail->flags = 2, works(v)))
VIOLATION(VQ, 6, 2, LENIENT, EACH | ONLY_SPLIT, LIVE, FEATURE(VIRTIO_RING_F_EVENT_IDX), "avail.flags 1 with EVENT_IDX",
	  (v->rings[target->queue].avail->flags = 1, expect_works(v)))

VIOLATION(VQ, 6, 3, BREAKS, EACH | ONLY_PACKED, LIVE, 0, "driver event flags 3",
	  (v->rings[target->queue].driver_event->flags = 3, works(v)))
VIOLATION(VQ, 6, 4, BREAKS, EACH | ONLY_PACKED, LIVE, 0, "driver event flags 2 without EVENT_IDX",
	  (v->rings[target->queue].driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC, works(v)))
VIOLATION(VQ, 6, 5, BREAKS, EACH | ONLY_PACKED, LIVE, FEATURE(VIRTIO_RING_F_EVENT_IDX), "a driver event offset that is the queue size",
	  (v->rings[target->queue].driver_event->off_wrap = QUEUE_SIZE,
	   v->rings[target->queue].driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC, works(v)))

/* clang-format on */
