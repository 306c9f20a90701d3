/* post_easy URL COUNT: telemetry of a fixed text through one easy handle that is used again and again. */
#include "post.h"

#include <stdlib.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct answer answer = {0};
  CURL *easy = new_post(argv[1], &answer);
  for (long left = strtol(argv[2], NULL, 10); left > 0; left--) {
    answer.length = 0;
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, BODY);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)sizeof BODY - 1);
    check(easy, curl_easy_perform(easy));
  }
  curl_easy_cleanup(easy);
  return 0;
}
