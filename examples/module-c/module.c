// A davit module in C with libmosquitto: it connects, takes an offer, fetches the image in chunks, verifies it, hands it
// to the host MCU and reports. It may be killed at any moment and goes on where it was. The host MCU is install()
// below, and here a file; yours goes in its place. docs/module-author.md explains it, docs/protocol.md has every field.
//
//     module HOST PORT DEVICE PASSWORD_FILE FOLDER
#define _FILE_OFFSET_BITS 64 // images may have 4 GiB, also where long has 32 bits

#include <fcntl.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

enum { CHUNK = 4096, WINDOW = 32, HEADER = 16 }; // bytes of a chunk, chunks that are asked for at once, bytes before the data

static struct mosquitto *mqtt;
static const char *device;
static volatile sig_atomic_t stop;
static unsigned pause_; // seconds before the next attempt to connect
static long asked;      // milliseconds before it that a busy service has asked for; 0 if it has not

enum { TEXT = 1536 }; // room for a version of 255 bytes, each written as \uXXXX
static char running[TEXT] = "1.0.0"; // what the host MCU reports: a JSON text without its quotes, as it came

// The update. What has to outlive a restart is in the files state (first line of save()), slot (the image) and have (one byte for each chunk).
static char execution[65], image[65], version[TEXT], sha256[65], unacked[2 * TEXT]; // the last is the report that has no ack yet
static unsigned long long attempt, seq, size;
static int open_, final; // an update is under way; its end has been decided
static FILE *slot, *have;
static int folder; // which says what the files are called
static unsigned char *got; // the content of have
static unsigned long long chunks, held, awaited;
static unsigned tag, wait_fetch, wait_status;       // seconds, doubled while nothing comes
static time_t last_fetch, last_status, last_hello, last_progress;

// value copies the value of a name out of a JSON object, without the quotes of a text, and says whether it is there. In
// JSON a name is the only text that is followed by a colon, so searching for it is enough where names are unique.
static int value(const char *json, const char *name, char *out, size_t room) {
	size_t length = strlen(name);
	for (const char *p = json; (p = strstr(p, name)); p += length) {
		const char *v = p + length + 1, *end;
		if (p == json || p[-1] != '"' || p[length] != '"' || v[strspn(v, " \t\r\n")] != ':')
			continue;
		v += strspn(v, " \t\r\n:");
		if (*v == '"')
			for (end = ++v; *end && *end != '"'; end++)
				end += *end == '\\' && end[1];
		else
			end = v + strcspn(v, ",}] \t\r\n");
		if ((size_t)(end - v) >= room)
			return 0;
		memcpy(out, v, end - v);
		out[end - v] = 0;
		return 1;
	}
	return 0;
}

static unsigned long long number(const char *json, const char *name) {
	char text[32];
	return value(json, name, text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

// write_file replaces a file so that after a power cut there is the old or the new one, and once it has returned the new one.
static void write_file(const char *name, const char *format, ...) {
	FILE *f = fopen("new", "w");
	va_list args;
	va_start(args, format);
	if (!f || vfprintf(f, format, args) < 0 || fflush(f) || fsync(fileno(f)) || fclose(f) || rename("new", name) || fsync(folder)) {
		perror(name);
		exit(1); // better started anew than with a state that is not on disk
	}
	va_end(args);
}

static void save(void) { write_file("state", "%s %llu %llu %d %s\n%s", execution, attempt, seq, final, sha256, unacked); }

static void say(const char *kind, int qos, int retain, const char *payload) {
	char topic[128];
	snprintf(topic, sizeof topic, "davit/v1/%s/%s", device, kind);
	mosquitto_publish(mqtt, NULL, topic, (int)strlen(payload), payload, qos, retain);
}

static void hello(void) {
	char json[2 * TEXT], open[160] = "";
	if (open_)
		snprintf(open, sizeof open, ",\"execution\":\"%s\",\"attempt\":%llu", execution, attempt);
	snprintf(json, sizeof json, "{\"v\":1,\"module\":\"module-c 1.0\",\"dialect\":\"ayla\",\"host_versions\":{\"oem_host_version\":\"%s\"}%s}", running, open);
	say("hello", 1, 0, json);
	last_hello = time(NULL);
}

// report is on disk before it is sent, so that its number is never used twice; it is repeated until the ack comes.
static void report(const char *state, unsigned long long bytes, const char *more) {
	snprintf(unacked, sizeof unacked, "{\"v\":1,\"execution\":\"%s\",\"attempt\":%llu,\"seq\":%llu,\"state\":\"%s\",\"bytes_done\":%llu%s}",
		 execution, attempt, ++seq, state, bytes, more);
	final = !strcmp(state, "succeeded") || !strcmp(state, "failed") || !strcmp(state, "rejected");
	open_ = open_ && !final;
	save();
	say("status", 1, 0, unacked);
	last_status = time(NULL);
	wait_status = 2;
}

// install is the host MCU: it takes the verified image, boots it, and says which version runs. This one never fails.
static void install(void) {
	rename("slot", "running");
	strcpy(running, version);
	write_file("version", "%s", running);
}

static void succeeded(void) {
	char more[TEXT + 32];
	snprintf(more, sizeof more, ",\"host_version\":\"%s\"", running);
	report("succeeded", size, more);
	hello();
}

// whole is called when every chunk is there. No byte goes to the MCU unless the SHA-256 agrees.
static void whole(void) {
	char sum[65];
	fflush(slot);
	if (sha256_file(slot, size, sum) || strcmp(sum, sha256)) {
		unlink("have");
		report("failed", held * CHUNK, ",\"cause\":\"checksum\",\"detail\":\"The SHA-256 of what was fetched is not the offer's.\"");
		return;
	}
	report("downloaded", size, "");
	report("installing", 0, "");
	install();
	unlink("have");
	report("booting", size, "");
	succeeded();
}

// fetch asks for the first chunks that are missing: holes as well as what comes next.
static void fetch(void) {
	char json[8192];
	int n = snprintf(json, sizeof json, "{\"v\":1,\"image\":\"%s\",\"tag\":%u,\"chunk\":%d,\"ranges\":[", image, ++tag & 0xffff, CHUNK);
	awaited = 0;
	for (unsigned long long i = 0; i < chunks && awaited < WINDOW; i++) {
		unsigned long long first = i;
		while (i < chunks && !got[i] && awaited < WINDOW)
			i++, awaited++;
		if (i > first)
			n += snprintf(json + n, sizeof json - n, "%s{\"offset\":%llu,\"length\":%llu}", json[n - 1] == '[' ? "" : ",",
				      first * CHUNK, (i * CHUNK < size ? i * CHUNK : size) - first * CHUNK);
	}
	snprintf(json + n, sizeof json - n, "]}");
	say("fetch", 0, 0, json);
	last_fetch = time(NULL);
}

static void chunk(const unsigned char *p, size_t length) {
	unsigned long long offset = 0, n = length - HEADER;
	char mark[9];
	for (int i = 8; i < HEADER; i++)
		offset = offset << 8 | p[i];
	snprintf(mark, sizeof mark, "%02x%02x%02x%02x", p[4], p[5], p[6], p[7]);
	unsigned long long i = offset / CHUNK;
	if (!open_ || p[0] != 1 || p[1] & ~1 || strncmp(mark, sha256, 8) || i >= chunks || offset % CHUNK || n != (i + 1 < chunks ? CHUNK : size - offset) || got[i])
		return; // of another image or version, not as it was asked for, or here already
	if (fseeko(slot, (off_t)offset, SEEK_SET) || fwrite(p + HEADER, 1, n, slot) != n || fflush(slot) || fseeko(have, (off_t)i, SEEK_SET) || fputc(1, have) < 0 || fflush(have)) {
		report("failed", held * CHUNK, ",\"cause\":\"storage\",\"detail\":\"The image cannot be written.\"");
		return;
	}
	got[i] = 1;
	held++;
	wait_fetch = 2;
	if (held == chunks) {
		whole();
		return;
	}
	last_fetch = time(NULL);
	if (time(NULL) > last_progress) {
		last_progress = time(NULL);
		report("downloading", held * CHUNK, "");
	}
	if (awaited > 0 && --awaited == 0)
		fetch();
}

// begin opens slot and have, which may have a part of the image already.
static void begin(void) {
	if (slot)
		fclose(slot);
	if (have)
		fclose(have);
	if (!(have = fopen("have", "r+")))
		unlink("slot"), have = fopen("have", "w+");
	if (!(slot = fopen("slot", "r+")))
		slot = fopen("slot", "w+");
	chunks = (size + CHUNK - 1) / CHUNK;
	free(got);
	got = calloc(chunks, 1);
	if (!have || !slot || !got) {
		report("failed", 0, ",\"cause\":\"storage\",\"detail\":\"There is no room for the image.\"");
		return;
	}
	held = 0;
	for (size_t i = 0, n = fread(got, 1, chunks, have); i < n; i++)
		held += got[i];
	wait_fetch = 2;
	if (held == chunks)
		whole();
	else
		fetch();
}

static void offer(const char *json) {
	char id[65], sum[65], action[16] = "";
	unsigned long long n = number(json, "attempt");
	if (!*json) { // withdrawn
		open_ = 0, *unacked = 0;
		return;
	}
	if (!value(json, "execution", id, sizeof id) || !value(json, "sha256", sum, sizeof sum) || !n || !number(json, "size"))
		return; // none of the contract
	value(json, "action", action, sizeof action);
	int known = !strcmp(id, execution) && n == attempt;
	if (known && (open_ || final))
		return;
	if (strcmp(sum, sha256))
		unlink("have"); // of another image
	strcpy(execution, id), strcpy(sha256, sum);
	attempt = n, seq = known ? seq : 0, size = number(json, "size"), final = 0, open_ = 1;
	value(json, "image", image, sizeof image);
	value(json, "version", version, sizeof version);
	if (!strcmp(action, "download")) {
		report("rejected", 0, ",\"cause\":\"rejected\",\"detail\":\"This module installs at once what it fetches.\"");
	} else if (known && !strcmp(running, version)) { // killed between the boot and its report
		succeeded();
	} else {
		if (!known)
			report("accepted", 0, "");
		begin();
	}
}

static void acknowledged(const char *json) {
	char id[65], over[8] = "";
	if (!value(json, "execution", id, sizeof id) || strcmp(id, execution) || number(json, "attempt") != attempt)
		return;
	value(json, "superseded", over, sizeof over);
	if (number(json, "seq") >= seq)
		*unacked = 0, save();
	if (!strcmp(over, "true"))
		open_ = 0, *unacked = 0; // the service has done with this attempt
}

static void on_message(struct mosquitto *m, void *user, const struct mosquitto_message *message) {
	const char *kind = strrchr(message->topic, '/') + 1;
	char json[8193] = "";
	(void)m, (void)user;
	if (!strcmp(kind, "chunk")) {
		if (message->payloadlen > HEADER)
			chunk(message->payload, (size_t)message->payloadlen);
		return;
	}
	if (message->payloadlen >= (int)sizeof json)
		return;
	memcpy(json, message->payload ? message->payload : "", (size_t)message->payloadlen);
	if (!strcmp(kind, "offer"))
		offer(json);
	else
		acknowledged(json);
}

// advice is after how many milliseconds a busy service asks to come back, in a refusal's properties.
static long advice(const mosquitto_property *p) {
	char *name, *after;
	long ms = 0;
	for (bool next = false; (p = mosquitto_property_read_string_pair(p, MQTT_PROP_USER_PROPERTY, &name, &after, next)); next = true) {
		if (!strcmp(name, "retry_after_ms"))
			ms = strtol(after, NULL, 10);
		free(name), free(after);
	}
	return ms < 0 ? 0 : ms < 60000 ? ms : 60000; // nobody silences us for long
}

static void on_connect(struct mosquitto *m, void *user, int refused, int flags, const mosquitto_property *properties) {
	char topics[3][128], *list[] = {topics[0], topics[1], topics[2]};
	const char *kinds[] = {"offer", "chunk", "ack"};
	(void)user, (void)flags;
	if (refused) {
		asked = advice(properties);
		fprintf(stderr, "refused: %s; asked to come back in %ld ms\n", mosquitto_reason_string(refused), asked);
		return;
	}
	pause_ = 1;
	for (int i = 0; i < 3; i++)
		snprintf(topics[i], sizeof topics[i], "davit/v1/%s/%s", device, kinds[i]);
	mosquitto_subscribe_multiple(m, NULL, 3, list, 1, 0, NULL);
	say("presence", 1, 1, "{\"v\":1,\"online\":true}");
	hello();
	last_status = 0, wait_status = 1; // what has no ack is said again at once, and then after 2 s
}

// remind does what is due: the report that has no ack, the chunks that do not come, the hello.
static void remind(void) {
	time_t now = time(NULL);
	if (*unacked && now >= last_status + (time_t)wait_status) {
		say("status", 1, 0, unacked);
		last_status = now;
		wait_status = wait_status < 30 ? 2 * wait_status : 60;
	}
	if (open_ && got && held < chunks && now > last_fetch + (time_t)wait_fetch) {
		fetch();
		wait_fetch = wait_fetch < 15 ? 2 * wait_fetch : 30;
	}
	if (now > last_hello + 600)
		hello();
}

static void end(int signal) { stop = signal; }

// first_line reads a file's first line into text, which keeps what it has if there is no such file.
static void first_line(const char *name, char *text, int room) {
	FILE *f = fopen(name, "r");
	if (f && fgets(text, room, f))
		text[strcspn(text, "\r\n")] = 0;
	if (f)
		fclose(f);
}

int main(int argc, char **argv) {
	char password[200] = "", will[128], offline[] = "{\"v\":1,\"online\":false}";
	FILE *state;
	if (argc != 6) {
		fprintf(stderr, "usage: %s HOST PORT DEVICE PASSWORD_FILE FOLDER\n", argv[0]);
		return 2;
	}
	device = argv[3];
	first_line(argv[4], password, sizeof password);
	if (chdir(argv[5]) || (folder = open(".", O_RDONLY)) < 0) {
		perror(argv[5]);
		return 1;
	}
	first_line("version", running, sizeof running);
	if ((state = fopen("state", "r"))) {
		if (fscanf(state, "%64s %llu %llu %d %64s%*[\n]%3071[^\n]", execution, &attempt, &seq, &final, sha256, unacked) < 5)
			*execution = 0;
		fclose(state);
	}
	signal(SIGINT, end), signal(SIGTERM, end);
	mosquitto_lib_init();
	mqtt = mosquitto_new(device, true, NULL);
	mosquitto_username_pw_set(mqtt, device, password);
	snprintf(will, sizeof will, "davit/v1/%s/presence", device);
	mosquitto_will_set(mqtt, will, (int)strlen(offline), offline, 1, true);
	mosquitto_int_option(mqtt, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5); // 3.1.1 would do, without advice when to come back
	mosquitto_connect_v5_callback_set(mqtt, on_connect);
	mosquitto_message_callback_set(mqtt, on_message);
	srand((unsigned)getpid() ^ (unsigned)time(NULL));
	int connected = mosquitto_connect(mqtt, argv[1], atoi(argv[2]), 30) == MOSQ_ERR_SUCCESS;
	for (pause_ = 1; !stop; remind()) {
		if (connected && (connected = mosquitto_loop(mqtt, 200, 1) == MOSQ_ERR_SUCCESS))
			continue;
		if (asked) { // and expected then: no attempt has failed
			nanosleep(&(struct timespec){asked / 1000, asked % 1000 * 1000000}, NULL);
			asked = 0;
		} else {
			sleep(pause_ + (unsigned)rand() % (pause_ + 1)); // longer each time and by chance, so that a fleet does not come back all at once
			pause_ = pause_ < 32 ? 2 * pause_ : 60;
		}
		if (!stop)
			connected = mosquitto_reconnect(mqtt) == MOSQ_ERR_SUCCESS;
	}
	say("presence", 1, 1, offline); // an orderly end sends no will
	mosquitto_disconnect(mqtt);
	mosquitto_destroy(mqtt);
	mosquitto_lib_cleanup();
	return 0;
}
