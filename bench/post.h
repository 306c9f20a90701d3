/* What the C programs that post have in common: the request, which is the module's to the byte but for its numbers, and
 * the least that a client can do with the answer. */
#ifndef POST_H
#define POST_H

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY "{\"temperature\":21.5,\"humidity\":60,\"battery\":3.123}"

struct answer {
  char bytes[1024];
  size_t length;
};

static size_t on_body(char *bytes, size_t size, size_t count, void *data) {
  struct answer *answer = data;
  if (size * count > sizeof answer->bytes - answer->length) return 0;
  memcpy(answer->bytes + answer->length, bytes, size * count);
  answer->length += size * count;
  return size * count;
}

static CURL *new_post(const char *url, struct answer *answer) {
  static struct curl_slist no_accept = {(char *)"Accept:", NULL};
  static struct curl_slist no_expect = {(char *)"Expect:", &no_accept};
  static struct curl_slist json = {(char *)"Content-Type: application/json", &no_expect};
  CURL *easy = curl_easy_init();
  if (easy == NULL) exit(1);
  curl_easy_setopt(easy, CURLOPT_URL, url);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "thingsboard-lua");
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, &json);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 35000L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 10000L);
  return easy;
}

static void check(CURL *easy, CURLcode code) {
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (code == CURLE_OK && status == 200) return;
  fprintf(stderr, "a post failed: %s, status %ld\n", curl_easy_strerror(code), status);
  exit(1);
}

#endif
