/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger may say (gdb/session.c), to an engine that only pretends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_debug.h"
#include "gdb/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define AVX_512	     0x2e7 /* XCR0: x87, SSE, AVX, the three of AVX-512, PKRU */
#define AVX	     0x7
#define ERROR_EFAULT "E0e"
#define ERROR_EINVAL "E16"
#define ERROR_ENOSPC "E1c"

static struct fake_debug fake;
static struct gdb_session session;
static struct gdb_reply reply;

/* The reply as a string; NULL: there is none yet. */
static const char *say(const char *packet, size_t length)
{
	static char text[GDB_PAYLOAD_MAX + 1];

	gdb_reply_begin(&reply);
	if (!gdb_session_packet(&session, packet, length, &reply))
		return NULL;
	memcpy(text, reply.payload, reply.length);
	text[reply.length] = '\0';
	return text;
}

static const char *ask(const char *packet)
{
	return say(packet, strlen(packet));
}

#define assert_answer(packet, answer) assert_string_equal(ask(packet), answer)

/* What has stopped, as GDB is told of it. NULL: nothing. */
static const char *hear(void)
{
	static char text[GDB_PAYLOAD_MAX + 1];

	gdb_reply_begin(&reply);
	if (!gdb_session_stopped(&session, &reply))
		return NULL;
	memcpy(text, reply.payload, reply.length);
	text[reply.length] = '\0';
	return text;
}

static void assert_doing(enum debug_action a, enum debug_action b, enum debug_action c)
{
	assert_int_equal(fake.actions[0], a);
	assert_int_equal(fake.actions[1], b);
	assert_int_equal(fake.actions[2], c);
}

static void begin_with(u64 features, bool wait)
{
	fake_debug_init(&fake, features);
	assert_int_equal(
		gdb_session_init(&session, &fake.engine, &fake.machine, FAKE_DEBUG_VCPUS, wait), 0);
	gdb_session_power_on(&session);
}

static int set_up(void **state)
{
	(void)state;
	begin_with(AVX_512, false);
	return gdb_session_begin(&session);
}

static int tear_down(void **state)
{
	(void)state;
	gdb_session_destroy(&session);
	fake_debug_destroy(&fake);
	return 0;
}

static void test_unknown(void **state)
{
	(void)state;
	assert_answer("vMustReplyEmpty", "");
	assert_answer("", "");
	assert_answer("qCRC:0,1", "");
	assert_answer("R", "");
	assert_answer("Z3,0,1", "");
	assert_answer("z3,0,1", "");
	assert_answer("\xff", "");
}

static void test_held_until_it_comes(void **state)
{
	(void)state;
	begin_with(AVX, true);
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
	assert_int_equal(gdb_session_begin(&session), 0);
	assert_answer("?", "T05thread:1;");
	assert_null(ask("c"));
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	tear_down(state);

	/* Who leaves without a word lets the guest go as well. */
	begin_with(AVX, true);
	assert_int_equal(gdb_session_begin(&session), 0);
	gdb_session_end(&session);
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	tear_down(state);
}

static void test_comes_and_goes(void **state)
{
	(void)state;
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
	assert_answer("Z0,1000,1", "OK");
	assert_answer("D", "OK");
	assert_true(session.detached);
	gdb_session_end(&session);
	assert_int_equal(fake.point_count, 0);
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);

	assert_int_equal(gdb_session_begin(&session), 0);
	assert_false(session.detached);
	assert_answer("?", "T05thread:1;");
}

static void test_going_on(void **state)
{
	(void)state;
	assert_answer("vCont?", "vCont;c;C;s;S");
	assert_null(ask("vCont;c"));
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	/* While it runs nothing is listened to but ^C. */
	assert_null(ask("g"));
	assert_true(gdb_session_interrupt(&session, &reply));
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
	assert_false(gdb_session_interrupt(&session, &reply));

	assert_null(ask("vCont;s:2;c"));
	assert_doing(DEBUG_RUN, DEBUG_STEP, DEBUG_RUN);
	gdb_session_interrupt(&session, &reply);
	assert_null(ask("vCont;C05:3"));
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_RUN);
	gdb_session_interrupt(&session, &reply);
	/* The first that is about it counts. */
	assert_null(ask("vCont;S05:1;s:1;c:1;s:-1"));
	assert_doing(DEBUG_STEP, DEBUG_STEP, DEBUG_STEP);
	gdb_session_interrupt(&session, &reply);

	assert_answer("Hc2", "OK");
	assert_null(ask("s"));
	assert_doing(DEBUG_STAY, DEBUG_STEP, DEBUG_STAY);
	gdb_session_interrupt(&session, &reply);
	assert_null(ask("S05"));
	assert_doing(DEBUG_STAY, DEBUG_STEP, DEBUG_STAY);
	gdb_session_interrupt(&session, &reply);
	assert_null(ask("cffff800000001000"));
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	assert_true(fake.state[1].rip == 0xffff800000001000);
	gdb_session_interrupt(&session, &reply);
	assert_null(ask("C05;8"));
	assert_true(fake.state[1].rip == 8);
}

static void test_going_nowhere(void **state)
{
	static const char *const bad[] = {"vCont",    "vCont;",	    "vCont;x",	"vCont;c:4",
					  "vCont;c:", "vCont;c:1x", "vCont;Cx", "C"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_answer(bad[i], ERROR_EINVAL);
	assert_int_equal(fake.resumes, 0);
}

static void test_stops(void **state)
{
	const struct debug_point code = {DEBUG_CODE, 0x1000, 1},
				 hard = {DEBUG_CODE_HARD, 0x1000, 1},
				 write = {DEBUG_WRITE, 0x2002, 2},
				 access = {DEBUG_ACCESS, 0x3000, 8};

	(void)state;
	ask("c");
	fake_debug_stop(&fake, 1, DEBUG_STEPPED, NULL);
	assert_string_equal(hear(), "T05thread:2;");
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
	assert_answer("?", "T05thread:2;");
	assert_answer("qC", "QC2");

	/* GDB hears of the kind of a breakpoint only if it has asked. */
	ask("c");
	fake_debug_stop(&fake, 0, DEBUG_AT_CODE, &code);
	assert_string_equal(hear(), "T05thread:1;");
	ask("qSupported:multiprocess+;swbreak+;hwbreak+;x");
	ask("c");
	fake_debug_stop(&fake, 0, DEBUG_AT_CODE, &code);
	assert_string_equal(hear(), "T05thread:1;swbreak:;");
	ask("c");
	fake_debug_stop(&fake, 0, DEBUG_AT_CODE, &hard);
	assert_string_equal(hear(), "T05thread:1;hwbreak:;");
	ask("c");
	fake_debug_stop(&fake, 2, DEBUG_WATCHED, &write);
	assert_string_equal(hear(), "T05thread:3;watch:2002;");
	ask("c");
	fake_debug_stop(&fake, 2, DEBUG_WATCHED, &access);
	assert_string_equal(hear(), "T05thread:3;awatch:3000;");
	assert_null(hear());
}

/* Two at once: GDB hears of one, and of the other where it would otherwise be lost. */
static void test_stops_together(void **state)
{
	const struct debug_point code = {DEBUG_CODE, 0x1000, 1};
	struct debug_point write = {DEBUG_WRITE, 0x2004, 8};

	(void)state;
	ask("Z2,2000,8");
	ask("c");
	fake_debug_stop(&fake, 0, DEBUG_AT_CODE, &code);
	fake_debug_stop(&fake, 1, DEBUG_WATCHED, &write);
	fake_debug_stop(&fake, 2, DEBUG_AT_CODE, &code);
	assert_string_equal(hear(), "T05thread:1;");
	/* Those that stay where they are say nothing: GDB believes the one that it let go. */
	assert_null(ask("vCont;s:1"));
	eventfd_write(session.wake_fd, 1);
	assert_null(hear());
	fake_debug_stop(&fake, 0, DEBUG_STEPPED, NULL);
	assert_string_equal(hear(), "T05thread:1;");
	assert_int_equal(fake.resumes, 2);
	assert_answer("vCont;s:1;c", "T05thread:2;watch:2004;");
	assert_null(ask("c"));
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	assert_null(hear());

	/* What is no longer watched is no longer news. */
	fake_debug_stop(&fake, 0, DEBUG_AT_CODE, &code);
	fake_debug_stop(&fake, 1, DEBUG_WATCHED, &write);
	assert_string_equal(hear(), "T05thread:1;");
	ask("z2,2000,8");
	assert_null(ask("c"));
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);

	/* A watched one is told at once when all go on. */
	gdb_session_interrupt(&session, &reply);
	ask("Z2,2000,8");
	ask("c");
	fake_debug_stop(&fake, 2, DEBUG_AT_CODE, &code);
	fake_debug_stop(&fake, 1, DEBUG_WATCHED, &write);
	assert_string_equal(hear(), "T05thread:3;");
	assert_answer("vCont;c", "T05thread:2;watch:2004;");
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
}

/* It stopped while nobody was there, or for one who has left. */
static void test_stops_for_nobody(void **state)
{
	(void)state;
	ask("c");
	fake_debug_stop(&fake, 0, DEBUG_STEPPED, NULL);
	gdb_session_end(&session);
	assert_null(hear());
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);
	assert_int_equal(gdb_session_begin(&session), 0);
	assert_null(ask("c"));
	assert_null(hear());
}

static void test_interrupt(void **state)
{
	(void)state;
	ask("Hg3");
	ask("c");
	gdb_reply_begin(&reply);
	assert_true(gdb_session_interrupt(&session, &reply));
	assert_int_equal(reply.length, 12);
	assert_memory_equal(reply.payload, "T02thread:3;", 12);
}

/* ------------------------------------------------------------------ registers */

static unsigned number_of(const char *name)
{
	char wanted[64];
	const char *at = session.description, *found;
	unsigned n = 0;

	snprintf(wanted, sizeof(wanted), "<reg name=\"%s\"", name);
	found = strstr(at, wanted);
	assert_non_null(found);
	while ((at = strstr(at, "<reg ")) && at < found) {
		n++;
		at++;
	}
	return n;
}

static const char *read_register(const char *name)
{
	char packet[16];

	snprintf(packet, sizeof(packet), "p%x", number_of(name));
	return ask(packet);
}

static void write_register(const char *name, const char *value)
{
	char packet[128];

	snprintf(packet, sizeof(packet), "P%x=%s", number_of(name), value);
	assert_answer(packet, "OK");
	assert_string_equal(read_register(name), value);
}

static void test_general_registers(void **state)
{
	(void)state;
	/* GDB's order is not the architecture's. */
	fake.state[1].gpr[RAX] = 0x1122334455667788;
	fake.state[1].gpr[RBX] = 0xb;
	fake.state[1].gpr[RSP] = 0xffffc90000000000;
	fake.state[1].gpr[15] = 0xf;
	fake.state[1].rip = 0xffffffff81000000;
	fake.state[1].rflags = 0x246;
	fake.state[1].cs.selector = 0x10;
	fake.state[1].gs.base = 0xffff888000000000;
	fake.state[1].kernel_gs_base = 0x5000;
	fake.state[1].cr3 = 0x123000;
	ask("Hg2");
	assert_answer("p0", "8877665544332211");
	assert_answer("p1", "0b00000000000000");
	assert_answer("p7", "00000000"
			    "00c9ffff");
	assert_answer("pf", "0f00000000000000");
	assert_answer("p10", "00000081ffffffff");
	assert_answer("p11", "46020000");
	assert_answer("p12", "10000000");
	assert_string_equal(read_register("gs_base"), "000000008088ffff");
	assert_string_equal(read_register("k_gs_base"), "0050000000000000");
	assert_string_equal(read_register("cr3"), "0030120000000000");
	write_register("rcx", "0123456789abcdef");
	assert_true(fake.state[1].gpr[RCX] == 0xefcdab8967452301);
	write_register("rip", "0010000000000000");
	assert_true(fake.state[1].rip == 0x1000);
	/* Each vCPU has its own. */
	ask("Hg1");
	assert_answer("p10", "0000000000000000");
	assert_answer("pffff", ERROR_EINVAL);
	assert_answer("p", ERROR_EINVAL);
	assert_answer("P0=11", ERROR_EINVAL);
	assert_answer("P0", ERROR_EINVAL);
	assert_answer("Pffff=00", ERROR_EINVAL);
}

static void test_vector_registers(void **state)
{
	u64 present = AVX_512;

	(void)state;
	memcpy(fake.xsave[0].area + 512, &present, sizeof(present));
	fake.xsave[0].area[160 + 3 * 16] = 0x55;
	assert_string_equal(read_register("xmm3"), "55000000000000000000000000000000");
	write_register("xmm15", "000102030405060708090a0b0c0d0e0f");
	assert_int_equal(fake.xsave[0].area[160 + 15 * 16 + 14], 0x0e);
	write_register("mxcsr", "801f0000");
	assert_int_equal(fake.xsave[0].area[24], 0x80);
	write_register("st7", "00000000000000a00440");
	assert_int_equal(fake.xsave[0].area[32 + 7 * 16 + 9], 0x40);
	write_register("fop", "ff070000");
	assert_int_equal(fake.xsave[0].area[6], 0xff);
}

/* What the area does not say has its initial value. */
static void test_initial_values(void **state)
{
	(void)state;
	memset(fake.xsave[0].area, 0xee, 512);
	memset(fake.xsave[0].area + 576, 0xee, DEBUG_XSAVE_SIZE - 576);
	assert_string_equal(read_register("fctrl"), "7f030000");
	assert_string_equal(read_register("ftag"), "ffff0000");
	assert_string_equal(read_register("xmm0"), "00000000000000000000000000000000");
	assert_string_equal(read_register("st0"), "00000000000000000000");
	write_register("xmm0", "01000000000000000000000000000000");
	assert_true(fake.xsave[0].area[512] & 2);
}

/* Two bits of each, where FXSAVE has one, and by the register's number in hardware. */
static void test_tag_word(void **state)
{
	static const u8 values[8][10] = {
		[1] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f}, /* 1.0 */
		[2] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x7f}, /* infinity */
		[3] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0},	       /* denormal */
	};
	u8 *area = fake.xsave[0].area;

	(void)state;
	area[512] = 3;
	for (unsigned i = 0; i < 8; i++)
		memcpy(area + 32 + 16 * i, values[i], 10);
	area[3] = 4 << 3; /* ST0 is register 4 */
	area[4] = 0xf0;	  /* and 0 to 3 are empty */
	assert_string_equal(read_register("ftag"), "ffa10000");
	area[4] = 0;
	write_register("ftag", "ffff0000");
	assert_int_equal(area[4], 0);
	ask("P1a=00000000");
	write_register("fstat", "00000000");
	assert_string_equal(read_register("fstat"), "00000000");
}

static void test_all_registers(void **state)
{
	static char all[GDB_PAYLOAD_MAX];
	size_t length, bytes = 0;

	(void)state;
	for (unsigned i = 0; i < session.registers.count; i++)
		bytes += gdb_register_size(&session.registers, i);
	fake.state[0].rip = 0x1234;
	strcpy(all + 1, ask("g"));
	all[0] = 'G';
	length = strlen(all);
	assert_int_equal(length, 1 + 2 * bytes);
	memcpy(all + 1, "8877665544332211", 16);
	assert_string_equal(say(all, length), "OK");
	assert_true(fake.state[0].gpr[RAX] == 0x1122334455667788);
	assert_true(fake.state[0].rip == 0x1234);
	assert_string_equal(say(all, length - 1), ERROR_EINVAL);
}

static bool described(const char *name)
{
	return strstr(session.description, name);
}

static void test_description(void **state)
{
	static char text[64 * 1024], packet[64];
	size_t got = 0;

	(void)state;
	for (bool more = true; more;) {
		snprintf(packet, sizeof(packet), "qXfer:features:read:target.xml:%zx,3f0", got);
		strcpy(text + got, ask(packet) + 1);
		more = reply.payload[0] == 'm';
		assert_true(more || reply.payload[0] == 'l');
		got += reply.length - 1;
	}
	assert_string_equal(text, session.description);
	assert_answer("qXfer:features:read:target.xml:fffff,10", "l");
	assert_answer("qXfer:features:read:other.xml:0,10", ERROR_EINVAL);
	assert_answer("qXfer:features:read:target.xml:0", ERROR_EINVAL);
	assert_true(described("name=\"zmm31h\"") && described("name=\"pkru\""));
	tear_down(state);

	/* Another machine has less. */
	begin_with(AVX, false);
	gdb_session_begin(&session);
	assert_true(described("name=\"ymm15h\"") && described("name=\"cr4\""));
	assert_false(described("zmm") || described("pkru"));
}

/* ------------------------------------------------------------------ memory */

static void test_memory(void **state)
{
	(void)state;
	/* The last page comes first. */
	memcpy(fake.ram + 3 * PAGE_SIZE, "\x01\x02\xff", 3);
	assert_answer("mffff800000000000,3", "0102ff");
	assert_answer("xffff800000000000,2", "b\x01\x02");
	assert_answer("Mffff800000000ffe,4:aabbccdd", "OK");
	assert_int_equal(fake.ram[3 * PAGE_SIZE + 4095], 0xbb);
	assert_int_equal(fake.ram[2 * PAGE_SIZE], 0xcc);
	assert_answer("mffff800000000ffe,4", "aabbccdd");
	assert_string_equal(say("Xffff800000000001,3:z\0}", 23), "OK");
	assert_memory_equal(fake.ram + 3 * PAGE_SIZE, "\x01z\0}", 4);
	/* GDB asks so whether we know X. */
	assert_answer("Xffff800000000000,0:", "OK");
	assert_answer("mffff800000000000,0", "");

	/* As much as there is; writing is all or an error. */
	assert_int_equal(strlen(ask("mffff800000003ff0,20")), 2 * 0x10);
	assert_answer("m1000,1", ERROR_EFAULT);
	assert_answer("mffffffffffffffff,10", ERROR_EFAULT);
	assert_answer("Mffff800000003fff,2:0000", ERROR_EFAULT);
	/* No more than goes into a packet. */
	assert_int_equal(strlen(ask("mffff800000000000,ffffffffffffffff")), GDB_PAYLOAD_MAX);
	assert_int_equal(
		gdb_session_packet(&session, "xffff800000000000,ffffffffffffffff", 34, &reply),
		true);
	assert_answer("Mffff800000000000,2:00", ERROR_EINVAL);
	assert_answer("Mffff800000000000,ffffffffffffffff:00", ERROR_EINVAL);
	assert_answer("Xffff800000000000,2:0", ERROR_EINVAL);
	assert_answer("mffff800000000000", ERROR_EINVAL);
	assert_answer("m,1", ERROR_EINVAL);
}

static const char *monitor(const char *command)
{
	static char text[1024];
	char packet[256] = "qRcmd,";
	const char *answer;

	for (size_t i = 0; command[i]; i++)
		snprintf(packet + 6 + 2 * i, 3, "%02x", (u8)command[i]);
	answer = ask(packet);
	if (!strcmp(answer, "OK"))
		return "OK";
	memset(text, 0, sizeof(text));
	for (size_t i = 0; answer[2 * i]; i++)
		sscanf(answer + 2 * i, "%2hhx", (u8 *)&text[i]);
	return text;
}

static void test_monitor(void **state)
{
	(void)state;
	assert_non_null(strstr(monitor("help"), "monitor quit"));
	assert_non_null(strstr(monitor("frobnicate"), "there are:"));
	assert_non_null(strstr(monitor("a word that is as long as only few words in English are"
				       " and longer than that"),
			       "there are:"));
	fake.ram[5] = 0x77;
	assert_answer("m5,1", ERROR_EFAULT);
	assert_string_equal(monitor("memory physical"), "OK");
	assert_answer("m5,1", "77");
	assert_string_equal(monitor("memory virtual"), "OK");
	assert_answer("m5,1", ERROR_EFAULT);
	assert_answer("qRcmd,6x", ERROR_EINVAL);
	assert_true(machine_running(&fake.machine));
	assert_string_equal(monitor("reset"), "OK");
	assert_false(machine_running(&fake.machine) || machine_stopped(&fake.machine));
	assert_string_equal(monitor("quit"), "OK");
	assert_true(machine_stopped(&fake.machine));
}

/* ------------------------------------------------------------------ points, threads, the end */

static void test_points(void **state)
{
	char packet[32];

	(void)state;
	assert_answer("Z0,ffffffff81000000,1", "OK");
	assert_answer("Z0,ffffffff81000000,1", "OK");
	assert_answer("Z1,ffffffff81000000,1", "OK");
	assert_answer("Z2,2000,8", "OK");
	assert_answer("Z4,3000,4", "OK");
	assert_int_equal(fake.point_count, 4);
	assert_int_equal(fake.points[3].kind, DEBUG_ACCESS);
	assert_true(fake.points[3].address == 0x3000 && fake.points[3].length == 4);
	assert_answer("z1,ffffffff81000000,1", "OK");
	assert_answer("z1,ffffffff81000000,1", "OK");
	assert_int_equal(fake.point_count, 3);
	for (unsigned i = fake.point_count; i < FAKE_DEBUG_POINTS; i++) {
		snprintf(packet, sizeof(packet), "Z0,%x,1", i);
		assert_answer(packet, "OK");
	}
	assert_answer("Z0,9999,1", ERROR_ENOSPC);
	assert_answer("z0,9999,1", "OK");
	assert_answer("Z0,9999,0", ERROR_EINVAL);
	assert_answer("Z0,9999", ERROR_EINVAL);
	assert_answer("Z5,9999,1", ERROR_EINVAL);
	assert_answer("Z", ERROR_EINVAL);
}

/* The engine has forgotten them, and the debugger thinks they are there. */
static void test_reboot(void **state)
{
	(void)state;
	ask("Z0,1000,1");
	ask("Z2,2000,8");
	ask("c");
	fake_debug_reset(&fake);
	gdb_session_power_on(&session);
	fake.off = false;
	assert_int_equal(fake.point_count, 2);
	assert_doing(DEBUG_RUN, DEBUG_RUN, DEBUG_RUN);

	/* Who was to stay does not any more. */
	gdb_session_interrupt(&session, &reply);
	ask("vCont;s:1");
	fake_debug_reset(&fake);
	gdb_session_power_on(&session);
	fake.off = false;
	fake_debug_stop(&fake, 2, DEBUG_AT_CODE, &(struct debug_point){DEBUG_CODE, 0x1000, 1});
	assert_string_equal(hear(), "T05thread:3;");
	assert_null(ask("c"));

	/* Stopped before, stopped afterwards. And what there is no room for is not removed. */
	gdb_session_interrupt(&session, &reply);
	fake_debug_reset(&fake);
	for (; fake.point_count < FAKE_DEBUG_POINTS; fake.point_count++)
		fake.points[fake.point_count] =
			(struct debug_point){DEBUG_CODE, 0x7000 + fake.point_count, 1};
	gdb_session_power_on(&session);
	fake.off = false;
	assert_doing(DEBUG_STAY, DEBUG_STAY, DEBUG_STAY);
	assert_answer("z0,1000,1", "OK");
	assert_answer("z2,2000,8", "OK");
	assert_int_equal(fake.point_count, FAKE_DEBUG_POINTS);
}

static void test_threads(void **state)
{
	(void)state;
	assert_answer("qfThreadInfo", "m1,2,3");
	assert_answer("qsThreadInfo", "l");
	assert_answer("qThreadExtraInfo,3", "764350552032");
	assert_answer("qThreadExtraInfo,4", ERROR_EINVAL);
	assert_answer("T1", "OK");
	assert_answer("T3", "OK");
	assert_answer("T0", ERROR_EINVAL);
	assert_answer("T4", ERROR_EINVAL);
	assert_answer("Hg0", "OK");
	assert_answer("Hc-1", "OK");
	assert_answer("Hg4", ERROR_EINVAL);
	assert_answer("Hx1", "");
	assert_answer("qAttached", "1");
	assert_answer("QStartNoAckMode", "OK");
	assert_true(session.no_ack);
}

static void test_end(void **state)
{
	(void)state;
	gdb_reply_begin(&reply);
	assert_false(gdb_session_ended(&session, EXIT_POWERED_OFF, &reply));
	ask("c");
	gdb_reply_begin(&reply);
	assert_true(gdb_session_ended(&session, EXIT_PANICKED, &reply));
	assert_memory_equal(reply.payload, "W03", 3);
	gdb_reply_begin(&reply);
	assert_true(gdb_session_ended(&session, EXIT_SIGNAL + SIGTERM, &reply));
	assert_memory_equal(reply.payload, "X0f", 3);
	gdb_session_interrupt(&session, &reply);
	assert_true(machine_running(&fake.machine));
	assert_null(ask("k"));
	assert_true(machine_stopped(&fake.machine));
	assert_int_equal(fake.machine.status, EXIT_SIGNAL + SIGINT);
}

/* Interrupted too late, or stopped when it was over: that it has ended is the news. */
static void test_end_first(void **state)
{
	(void)state;
	ask("c");
	machine_stop(&fake.machine, EXIT_CRASHED, NULL);
	assert_false(gdb_session_interrupt(&session, &reply));
	for (unsigned i = 0; i < FAKE_DEBUG_VCPUS; i++)
		fake.actions[i] = DEBUG_RUN;
	fake_debug_stop(&fake, 0, DEBUG_STEPPED, NULL);
	assert_null(hear());
	gdb_reply_begin(&reply);
	assert_true(gdb_session_ended(&session, EXIT_CRASHED, &reply));
	assert_memory_equal(reply.payload, "W02", 3);
}

static void test_kill(void **state)
{
	(void)state;
	assert_answer("vKill;1", "OK");
	assert_true(machine_stopped(&fake.machine));
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_unknown),
		cmocka_unit_test(test_held_until_it_comes),
		CASE(test_comes_and_goes),
		CASE(test_going_on),
		CASE(test_going_nowhere),
		CASE(test_stops),
		CASE(test_stops_together),
		CASE(test_stops_for_nobody),
		CASE(test_interrupt),
		CASE(test_general_registers),
		CASE(test_vector_registers),
		CASE(test_initial_values),
		CASE(test_tag_word),
		CASE(test_all_registers),
		CASE(test_description),
		CASE(test_memory),
		CASE(test_monitor),
		CASE(test_points),
		CASE(test_reboot),
		CASE(test_threads),
		CASE(test_end),
		CASE(test_kill),
		CASE(test_end_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
