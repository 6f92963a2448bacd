/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tap device (host/tap.c), in a network namespace of the test's own: what it looks
 * like from the host's side, that frames go in and out, what is refused, and that
 * nothing is left. Only root can make one; with anybody else, those tests are skipped.
 *
 * And MAC addresses, which need no root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/netif.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ADDRESS 0xc0a81301 /* 192.168.19.1 */

static const struct netif_options routed = {.kind = NETIF_TAP, .address = ADDRESS, .bits = 24};

static bool may_make_taps;
static int control; /* a socket for questions about interfaces */

static struct ifreq ask(unsigned long what, const char *name)
{
	struct ifreq request = {0};

	strcpy(request.ifr_name, name);
	assert_int_equal(ioctl(control, what, &request), 0);
	return request;
}

static u32 address_of(const struct ifreq *request)
{
	struct sockaddr_in address;

	memcpy(&address, &request->ifr_addr, sizeof(address));
	return ntohl(address.sin_addr.s_addr);
}

static void open_tap(struct netif *netif, const struct netif_options *options)
{
	struct problem why = {""};
	const int err = netif_open(netif, options, 0, &why);

	if (err)
		print_error("%s\n", why.text);
	assert_int_equal(err, 0);
}

static void test_routed(void **state)
{
	struct netif netif;
	struct ifreq request;

	(void)state;
	if (!may_make_taps)
		skip();
	open_tap(&netif, &routed);
	assert_string_equal(netif.name, "tap lguest0");
	assert_int_equal(netif.mtu, 1500);
	assert_int_equal(netif.child_fd, -1);
	assert_non_null(netif.ops->set_offloads);
	request = ask(SIOCGIFADDR, "lguest0");
	assert_int_equal(address_of(&request), ADDRESS);
	request = ask(SIOCGIFNETMASK, "lguest0");
	assert_int_equal(address_of(&request), 0xffffff00);
	request = ask(SIOCGIFBRDADDR, "lguest0");
	assert_int_equal(address_of(&request), ADDRESS | 0xff);
	request = ask(SIOCGIFFLAGS, "lguest0");
	assert_true(request.ifr_flags & IFF_UP);
	/* It does not block, and no child of ours has it. */
	assert_true(fcntl(netif.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(netif.fd, F_GETFD) & FD_CLOEXEC);
	netif_close(&netif);
	assert_int_equal(if_nametoindex("lguest0"), 0);
}

static void test_netmasks(void **state)
{
	static const struct {
		unsigned bits;
		u32 mask, broadcast; /* 0: has none */
	} tests[] = {
		{1, 0x80000000, 0xffffffff},  {8, 0xff000000, 0xc0ffffff},
		{25, 0xffffff80, 0xc0a8137f}, {30, 0xfffffffc, 0xc0a81303},
		{31, 0xfffffffe, 0},	      {32, 0xffffffff, 0},
	};

	(void)state;
	if (!may_make_taps)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		const struct netif_options options = {
			.kind = NETIF_TAP, .address = ADDRESS, .bits = tests[i].bits};
		struct ifreq request;
		struct netif netif;

		open_tap(&netif, &options);
		request = ask(SIOCGIFNETMASK, "lguest0");
		assert_int_equal(address_of(&request), tests[i].mask);
		request = ask(SIOCGIFBRDADDR, "lguest0");
		assert_int_equal(address_of(&request), tests[i].broadcast);
		netif_close(&netif);
	}
}

/* A raw socket at the host's end, for frames of one protocol that nobody else speaks. */
#define PROTOCOL 0x88b5 /* IEEE 802: for local experiments */

static int host_end(void)
{
	const struct sockaddr_ll name = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = if_nametoindex("lguest0"),
	};
	const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(PROTOCOL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
	return fd;
}

struct frame {
	struct virtio_net_hdr_mrg_rxbuf header;
	struct ethhdr ethernet;
	char text[46];
};

static struct frame make_frame(const struct netif *netif, const char *text)
{
	struct frame frame = {.ethernet = {.h_proto = htons(PROTOCOL)}};

	memset(frame.ethernet.h_dest, 0xff, ETH_ALEN);
	memcpy(frame.ethernet.h_source, netif->mac, ETH_ALEN);
	strcpy(frame.text, text);
	return frame;
}

static void test_frames(void **state)
{
	const size_t length = sizeof(struct frame) - NETIF_HEADER;
	struct frame frame, got;
	struct netif netif;
	struct iovec parts[2];
	ssize_t received;
	int host;

	(void)state;
	if (!may_make_taps)
		skip();
	open_tap(&netif, &routed);
	host = host_end();

	frame = make_frame(&netif, "from the guest");
	parts[0] = (struct iovec){&frame.header, NETIF_HEADER};
	parts[1] = (struct iovec){&frame.ethernet, length};
	assert_int_equal(netif.ops->send(&netif, parts, 2), 0);
	assert_int_equal(recv(host, &got.ethernet, length, 0), length);
	assert_memory_equal(&got.ethernet, &frame.ethernet, length);

	/* Frames of the host's own (IPv6 greets everybody) may come first. */
	frame = make_frame(&netif, "to the guest");
	assert_int_equal(send(host, &frame.ethernet, length, 0), length);
	do {
		struct pollfd fd = {.fd = netif.fd, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, 20000), 1);
		memset(&got, 0xee, sizeof(got));
		parts[0] = (struct iovec){&got.header, NETIF_HEADER};
		parts[1] = (struct iovec){&got.ethernet, length};
		received = netif.ops->receive(&netif, parts, 2);
		assert_true(received > 0);
	} while (got.ethernet.h_proto != htons(PROTOCOL));
	assert_int_equal(received, sizeof(frame));
	assert_int_equal(got.header.hdr.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	assert_memory_equal(&got.ethernet, &frame.ethernet, length);

	while ((received = netif.ops->receive(&netif, parts, 2)) > 0)
		;
	assert_int_equal(received, -EAGAIN);
	/* What is no frame is an error, and not the end. */
	parts[1].iov_len = ETH_HLEN - 1;
	assert_true(netif.ops->send(&netif, parts, 2) < 0);
	parts[1].iov_len = length;
	assert_int_equal(netif.ops->send(&netif, parts, 2), 0);
	close(host);
	netif_close(&netif);
}

static void test_offloads(void **state)
{
	static const struct netif_offloads tests[] = {
		{0},
		{.checksum = true},
		{.checksum = true, .tso4 = true},
		{.checksum = true, .tso6 = true, .ecn = true},
		{.checksum = true, .tso4 = true, .tso6 = true, .ecn = true},
		{0},
	};
	struct netif netif;

	(void)state;
	if (!may_make_taps)
		skip();
	open_tap(&netif, &routed);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		assert_int_equal(netif.ops->set_offloads(&netif, &tests[i]), 0);
	netif_close(&netif);
}

/* Somebody has deleted the interface. */
static void test_deleted(void **state)
{
	struct frame frame;
	struct iovec parts[2];
	struct netif netif;

	(void)state;
	if (!may_make_taps)
		skip();
	open_tap(&netif, &routed);
	frame = make_frame(&netif, "");
	parts[0] = (struct iovec){&frame.header, NETIF_HEADER};
	parts[1] = (struct iovec){&frame.ethernet, sizeof(frame) - NETIF_HEADER};
	assert_int_equal(system("PATH=$PATH:/usr/sbin:/sbin ip link del lguest0"), 0);
	assert_int_equal(netif.ops->receive(&netif, parts, 2), -EBADFD);
	assert_true(netif.ops->send(&netif, parts, 2) < 0);
	netif_close(&netif);
}

static void test_bridged(void **state)
{
	static const struct netif_options options = {.kind = NETIF_BRIDGED, .name = "bridge7"};
	struct netif netif;
	struct ifreq request;

	(void)state;
	if (!may_make_taps)
		skip();
	assert_int_equal(ioctl(control, SIOCBRADDBR, "bridge7"), 0);
	open_tap(&netif, &options);
	request = ask(SIOCGIFHWADDR, "lguest0");
	assert_int_equal((u8)request.ifr_hwaddr.sa_data[0], 0xfe);
	assert_memory_equal(request.ifr_hwaddr.sa_data + 1, netif.mac + 1, ETH_ALEN - 1);
	assert_true(ask(SIOCGIFFLAGS, "lguest0").ifr_flags & IFF_UP);
	/* It cannot be in two bridges; so it is in this one. */
	request = ask(SIOCGIFINDEX, "lguest0");
	strcpy(request.ifr_name, "bridge7");
	assert_int_equal(ioctl(control, SIOCBRADDIF, &request), -1);
	assert_int_equal(errno, EBUSY);
	netif_close(&netif);
	assert_int_equal(if_nametoindex("lguest0"), 0);
	assert_int_equal(ioctl(control, SIOCBRDELBR, "bridge7"), 0);
}

static void assert_refused(const struct netif_options *options, const char *said)
{
	struct problem why = {""};
	struct netif netif;

	assert_true(netif_open(&netif, options, 0, &why) < 0);
	if (!strstr(why.text, said))
		print_error("%s\n", why.text);
	assert_non_null(strstr(why.text, said));
	assert_int_equal(if_nametoindex("lguest0"), 0);
}

static void test_refused(void **state)
{
	(void)state;
	if (!may_make_taps)
		skip();
	assert_refused(&(struct netif_options){.kind = NETIF_BRIDGED, .name = "bridge8"},
		       "--tunnet=bridge:bridge8: there is no bridge8");
	assert_refused(&(struct netif_options){.kind = NETIF_BRIDGED, .name = "lo"},
		       "--tunnet=bridge:lo: lo is not a bridge");
}

/* Without the right to, it says so: in a user namespace, root is root of nothing here. */
static void test_no_right(void **state)
{
	struct problem why;
	struct netif netif;
	const pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		int err = unshare(CLONE_NEWUSER);

		if (err)
			_exit(2);
		err = netif_open(&netif, &routed, 0, &why);
		_exit((err != -EPERM && err != -EACCES) ||
		      !strstr(why.text, "--tunnet: cannot make a tap device: ") ||
		      !strstr(why.text, "--net=user"));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (status == 2 << 8)
		skip();
	assert_int_equal(status, 0);
}

/* MAC addresses */

static const u8 *mac_of(struct netif *netif, const char *seed)
{
	netif_set_mac(netif, seed);
	return netif->mac;
}

static void test_made_mac(void **state)
{
	static const char *const seeds[] = {"lguest0 c0a81301/24", "lguest1 c0a81301/24",
					    "lguest0 c0a81401/24", "lguest0 c0a81301/25", ""};
	u8 macs[ARRAY_SIZE(seeds)][ETH_ALEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(seeds); i++) {
		struct netif netif = {.options = &routed}, again = {.options = &routed};

		memcpy(macs[i], mac_of(&netif, seeds[i]), ETH_ALEN);
		assert_int_equal(macs[i][0] & 3, 2); /* locally administered, one station's */
		assert_memory_equal(mac_of(&again, seeds[i]), macs[i], ETH_ALEN);
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(macs[i], macs[j], ETH_ALEN);
	}
}

static void test_given_mac(void **state)
{
	static const struct netif_options options = {.has_mac = true,
						     .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56}};
	struct netif netif = {.options = &options};

	(void)state;
	assert_memory_equal(mac_of(&netif, "whatever"), options.mac, ETH_ALEN);
}

/* Two at a time: other names, other addresses; and the same once more. */
static void test_mac_of_taps(void **state)
{
	struct netif first, second, third;

	(void)state;
	if (!may_make_taps)
		skip();
	open_tap(&first, &routed);
	open_tap(&second, &routed);
	assert_string_equal(second.name, "tap lguest1");
	assert_memory_not_equal(first.mac, second.mac, ETH_ALEN);
	netif_close(&first);
	open_tap(&third, &routed);
	assert_memory_equal(third.mac, first.mac, ETH_ALEN);
	netif_close(&third);
	netif_close(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routed),	    cmocka_unit_test(test_netmasks),
		cmocka_unit_test(test_frames),	    cmocka_unit_test(test_offloads),
		cmocka_unit_test(test_deleted),	    cmocka_unit_test(test_bridged),
		cmocka_unit_test(test_refused),	    cmocka_unit_test(test_no_right),
		cmocka_unit_test(test_made_mac),    cmocka_unit_test(test_given_mac),
		cmocka_unit_test(test_mac_of_taps),
	};

	may_make_taps = geteuid() == 0 && unshare(CLONE_NEWNET) == 0 &&
			access("/dev/net/tun", R_OK | W_OK) == 0;
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
